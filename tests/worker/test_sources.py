"""A job whose model and data lie on a hub trains them, offline, and the same again later."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from tests.jobs import submit
from tests.worker.bench import COMPRESS, Bench, claimed
from tests.worker.fetching.hub import COMMIT, FakeHub, Handler, running
from tests.worker.fetching.test_fetch import MODEL, TOKEN
from worker import process

SPEC = {"model": "hub:org/model@v1", "dataset": "org/rows", "sparsity": 0.9}
PINNED = {"model": f"hub:org/model@{COMMIT}", "dataset": f"hub:org/rows@{COMMIT}"}
TELL_TASK = """
sources = {name: pathlib.Path(task["sources"][name]) for name in ("model", "dataset")}
found = {
    "spec": task["spec"],
    "environ": dict(os.environ),
    "model": {path.name: path.read_bytes().hex() for path in sources["model"].iterdir()},
    "dataset": sources["dataset"].read_text(),
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
def bench(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    script = tmp_path / "trainer.py"
    monkeypatch.setattr(process, "CHILD", ("-I", "-S", str(script)))
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
    assert bench.types == ["queued", "started", "phase", "fetched", "phase", "phase", "succeeded"]


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
        for pid in process._children():
            text = Path(f"/proc/{pid}/environ").read_bytes().decode()
            environ.append(dict(line.split("=", 1) for line in text.split("\0") if line))
        handler.answer_truly("/api/models/org/model/revision/v1")

    hub.instead["/revision/v1"] = [look]
    bench.run()

    (fetcher,) = [each for each in environ if "HF_TOKEN" in each]
    assert (fetcher["HF_ENDPOINT"], fetcher["HF_TOKEN"]) == (hub.url, TOKEN)
    assert "HF_HUB_OFFLINE" not in fetcher
    assert not [name for name in fetcher if name.startswith("PST_")]


def test_a_job_that_goes_on_asks_for_the_commit_that_it_began_with(
    bench: Bench, hub: FakeHub
) -> None:
    bench.run("os.abort()")
    hub.requests.clear()
    bench.claim_again()
    job = bench.run()

    assert job.status == "succeeded"
    asked = [path.rpartition("/")[2] for path, _ in hub.requests if "/revision/" in path]
    assert asked == [COMMIT, COMMIT]


def test_what_another_attempt_has_fetched_is_not_downloaded_again(
    bench: Bench, hub: FakeHub
) -> None:
    bench.run("os.abort()")
    hub.requests.clear()
    bench.claim_again()
    bench.run()

    assert not [path for path, _ in hub.requests if "/resolve/" in path]


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
