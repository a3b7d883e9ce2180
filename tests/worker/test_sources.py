"""A job whose model and data lie on a hub trains them, offline, and the same again later."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from pst_core.spec import CompressionSpec
from tests.jobs import claim, job_row, submit
from tests.published import publish, stored_path
from tests.worker.bench import COMPRESS, Bench, claimed
from tests.worker.fetching.hub import COMMIT, FakeHub, Handler, running
from tests.worker.fetching.test_fetch import MODEL, TOKEN
from worker import process

PATIENCE = 30  # seconds; guards against hanging
SPEC = {"model": "hub:org/model@v1", "dataset": "org/rows", "sparsity": 0.9}
PINNED = {"model": f"hub:org/model@{COMMIT}", "dataset": f"hub:org/rows@{COMMIT}"}
TELL_TASK = """
sources = {name: pathlib.Path(task["sources"][name]) for name in ("model", "dataset")}
found = {
    "spec": task["spec"],
    "environ": dict(os.environ),
    "model": {path.name: path.read_bytes().hex() for path in sources["model"].iterdir()},
    "dataset": sources["dataset"].read_text(),
    "baseline": {
        path.name: path.read_bytes().hex()
        for path in pathlib.Path(task["sources"]["baseline"] or "none").glob("*")
    },
}
pathlib.Path(__file__).with_name("found").write_text(json.dumps(found))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running(FakeHub(files={**MODEL, "rows.csv": b"text,label\n"})) as hub:
        yield hub


@pytest.fixture
def settings(settings: Settings, hub: FakeHub) -> Settings:
    changes = {"hub_endpoint": hub.url, "hub_token": SecretStr(TOKEN), "lease_seconds": 60}
    return settings.model_copy(update=changes)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "trainer.py"
    monkeypatch.setattr(process, "CHILD", ("-I", "-S", str(script)))
    return script


@pytest.fixture
def bench(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey, script: Path
) -> Iterator[Bench]:
    submit(sessions, key.project_id, spec=SPEC)
    with claimed(settings, sessions, script) as bench:
        yield bench


def found(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bench.script.with_name("found").read_text())
    return found


def hang(handler: Handler) -> None:
    handler.connection.recv(1)


def test_the_trainer_gets_what_was_fetched_and_the_commits_in_its_spec(bench: Bench) -> None:
    job = bench.run(TELL_TASK + COMPRESS)

    told = found(bench)
    assert job.status == "succeeded"
    assert told["model"] == {name: content.hex() for name, content in MODEL.items()}
    assert told["dataset"] == "text,label\n"
    assert (told["spec"]["model"], told["spec"]["dataset"]["ref"]) == tuple(PINNED.values())
    assert job.commits == {"model": COMMIT, "dataset": COMMIT}
    phases = ["phase", "phase", "phase"]
    assert bench.types == ["queued", "started", "phase", "fetched", *phases, "succeeded"]


def test_a_job_is_trained_by_the_hyperparameters_it_was_accepted_with(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey, script: Path
) -> None:
    job_id = submit(sessions, key.project_id, spec=SPEC)
    earlier = job_row(sessions, job_id).hyperparameters | {"learning_rate": 0.5, "of_old": 1}
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(hyperparameters=earlier))
    with claimed(settings, sessions, script) as bench:
        assert bench.run(TELL_TASK + COMPRESS).status == "succeeded"

        spec = CompressionSpec.model_validate(found(bench)["spec"])
    assert spec.resolved_hyperparameters().learning_rate == 0.5


def test_the_trainer_is_offline_and_knows_no_token(bench: Bench) -> None:
    bench.run(TELL_TASK + COMPRESS)

    environ = found(bench)["environ"]
    assert environ["HF_HUB_OFFLINE"] == "1"
    assert not {"HF_TOKEN", "HF_ENDPOINT"} & set(environ)
    assert TOKEN not in str(found(bench))


def test_the_fetch_child_gets_the_token_and_no_other_secret(
    bench: Bench, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PST_DATABASE_URL", "postgresql://secret")
    environ: list[dict[str, str]] = []

    def look(handler: Handler) -> None:
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # others come and go
                if "worker.fetching" in child.cmdline():
                    environ.append(child.environ())
        handler.answer_truly("/api/models/org/model/revision/v1")

    hub.instead["/revision/v1"] = [look]
    bench.run()

    (fetcher,) = environ
    assert (fetcher["HF_ENDPOINT"], fetcher["HF_TOKEN"]) == (hub.url, TOKEN)
    assert "HF_HUB_OFFLINE" not in fetcher
    assert not [name for name in fetcher if name.startswith("PST_")]


def test_a_job_that_goes_on_trains_the_commit_that_it_began_with_and_downloads_nothing_twice(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    script: Path,
    hub: FakeHub,
) -> None:
    submit(sessions, key.project_id, spec=SPEC)
    with claimed(settings, sessions, script) as first:
        first.run("os.abort()")
    hub.requests.clear()
    with claimed(settings, sessions, script) as second:
        job = second.run()

    assert (job.status, job.attempt) == ("succeeded", 2)
    asked = [path for path, _ in hub.requests]
    assert [path.rpartition("/")[2] for path in asked if "/revision/" in path] == [COMMIT, COMMIT]
    assert not [path for path in asked if "/resolve/" in path]


def test_a_hub_that_is_down_costs_an_attempt_of_infrastructure(bench: Bench, hub: FakeHub) -> None:
    hub.instead["/v1"] = [lambda handler: handler.send(503)]
    job = bench.run()

    assert (job.status, job.lost_attempts, job.failed_attempts) == ("queued", 1, 0)
    event = bench.last_event().data
    assert (event["reason"], event["error"]["field"]) == ("hub_unavailable", "model")


def test_a_hub_that_stays_down_fails_the_job_by_name(bench: Bench, hub: FakeHub) -> None:
    hub.instead["/v1"] = [lambda handler: handler.send(503)]
    bench.attempt.held.job.lost_attempts = bench.attempt.settings.max_lost_attempts - 1
    job = bench.run()

    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "hub_unavailable")


def test_a_gated_model_fails_the_job_at_once_with_field_and_remedy(
    bench: Bench, hub: FakeHub
) -> None:
    hub.instead["/v1"] = [lambda handler: handler.send(403, headers={"X-Error-Code": "GatedRepo"})]
    job = bench.run()

    assert job.error is not None
    assert (job.status, job.error["code"], job.error["field"]) == ("failed", "model_gated", "model")
    assert "PST_HUB_TOKEN" in job.error["remedy"]


def test_a_worker_without_a_hub_fails_the_job_by_name(bench: Bench) -> None:
    bench.attempt.settings = bench.attempt.settings.model_copy(update={"hub_endpoint": ""})
    job = bench.run()

    assert job.error is not None
    assert job.error["code"] == "hub_disabled"


@pytest.mark.parametrize(("ask", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_fetch_ends_at_once_when_it_is_no_longer_wanted(
    bench: Bench, hub: FakeHub, ask: str, status: str
) -> None:
    asks = {"cancel": bench.ask_to_cancel, "pause": bench.ask_to_pause}

    def ask_and_hang(handler: Handler) -> None:
        # What the fetcher says is written some moments later.
        deadline = time.monotonic() + PATIENCE
        while bench.job.phase != "fetching" and time.monotonic() < deadline:
            time.sleep(0.02)
        phases.append(bench.job.phase)
        asks[ask]()
        hang(handler)

    phases: list[str | None] = []
    hub.instead["/resolve/" + COMMIT + "/model.safetensors"] = [ask_and_hang]
    job = bench.run()

    assert job.status == status
    assert phases == ["fetching"]
    assert not list(bench.attempt.settings.scratch_dir.iterdir())


def test_a_worker_that_is_shut_down_gives_the_job_back_while_it_fetches(
    bench: Bench, hub: FakeHub
) -> None:
    def stop_and_hang(handler: Handler) -> None:
        bench.attempt.stopping.set()
        hang(handler)

    hub.instead["/model.safetensors"] = [stop_and_hang]
    job = bench.run()

    assert (job.status, bench.last_event().data) == ("queued", {"reason": "worker_stopped"})


@pytest.fixture(params=["dense", "packed"])
def published_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    tmp_path: Path,
    published_format: str,
) -> Job:
    """A job that has published a model."""
    folder = tmp_path / "base"
    folder.mkdir()
    for name, content in MODEL.items():
        (folder / name).write_bytes(content)
    submit(sessions, key.project_id, spec=SPEC)
    job = claim(sessions)
    publish(sessions, settings, job, {published_format: folder})
    return job


@pytest.fixture
def follower(
    settings: Settings, sessions: sessionmaker[Session], base: Job, script: Path
) -> Iterator[Bench]:
    """A job that starts from it."""
    submit(sessions, base.project_id, spec={**SPEC, "model": base.id})
    with claimed(settings, sessions, script) as bench:
        yield bench


def test_a_job_starts_from_the_checkpoint_of_another_without_a_hub(follower: Bench) -> None:
    job = follower.run(TELL_TASK + COMPRESS)

    assert job.status == "succeeded"
    assert found(follower)["model"] == {name: content.hex() for name, content in MODEL.items()}
    assert job.commits == {"dataset": COMMIT}


def test_a_job_whose_base_was_deleted_fails_by_name(follower: Bench, base: Job) -> None:
    with follower.sessions.begin() as session:
        session.scalars(moves.delete(base.project_id, base.id)).one()
    job = follower.run()

    assert job.error is not None
    assert (job.status, job.error["code"], job.error["field"]) == (
        "failed",
        "model_not_found",
        "model",
    )


def test_a_base_whose_bytes_have_changed_is_not_trained(
    follower: Bench, base: Job, published_format: str
) -> None:
    path = stored_path(follower.sessions, follower.attempt.settings, base, published_format)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    job = follower.run()

    assert job.error is not None
    assert job.error["code"] == "invalid_checkpoint"


@pytest.fixture
def compared(
    settings: Settings, sessions: sessionmaker[Session], base: Job, script: Path
) -> Iterator[Bench]:
    """A job of which that one is the baseline."""
    spec = {**SPEC, "baseline": base.id}
    submit(sessions, base.project_id, spec=spec, waits_for=base.id)
    with claimed(settings, sessions, script) as bench:
        yield bench


def test_the_trainer_gets_the_checkpoint_of_the_baseline(compared: Bench) -> None:
    job = compared.run(TELL_TASK + COMPRESS)

    assert job.status == "succeeded"
    assert found(compared)["baseline"] == {name: each.hex() for name, each in MODEL.items()}


def test_a_job_whose_baseline_was_deleted_fails_by_name(compared: Bench, base: Job) -> None:
    with compared.sessions.begin() as session:
        session.scalars(moves.delete(base.project_id, base.id)).one()
    job = compared.run()

    assert job.error is not None
    assert (job.error["code"], job.error["field"]) == ("baseline_not_found", "baseline")
