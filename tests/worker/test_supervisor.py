"""A supervisor takes a device, then one job, sees it through, and leaves the device free."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from tests.jobs import event_types, job_row, submit
from worker import process
from worker.attempt import Attempt
from worker.devices import take_free
from worker.supervisor import supervise

SPEC: dict[str, Any] = {"model": "file:model", "dataset": "file:data.csv", "sparsity": 0.9}

FAILING_TRAINER = """
import json, os, sys
with open(sys.argv[1]) as file:
    events = json.load(file)["events"]
os.write(events, b'{"type": "failure", "code": "unsupported_model", "message": "No."}\\n')
"""


@pytest.fixture
def settings(settings: Settings, file_root: Path) -> Settings:
    (file_root / "model").mkdir()
    (file_root / "model" / "config.json").write_text("{}")
    (file_root / "data.csv").write_text("text,label\n")
    return settings.model_copy(update={"lease_seconds": 60})


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(FAILING_TRAINER)
    monkeypatch.setattr(process, "CHILD", ("-I", "-S", str(script)))


def run(settings: Settings) -> bool:
    return supervise(settings, ["cpu"], threading.Event())


def device_is_free(settings: Settings) -> bool:
    device = take_free(["cpu"], settings.devices_dir)
    if device is not None:
        os.close(device.lock)
    return device is not None


def test_without_a_free_device_no_job_is_claimed(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id, spec=SPEC)
    taken = take_free(["cpu"], settings.devices_dir)
    assert taken is not None

    assert not run(settings)

    os.close(taken.lock)
    assert (job_row(sessions, job_id).status, job_row(sessions, job_id).attempt) == ("queued", 0)


@pytest.mark.usefixtures("engine")
def test_without_a_job_the_device_is_free_again(settings: Settings) -> None:
    assert not run(settings)

    assert device_is_free(settings)


def test_a_job_is_seen_through_to_its_end(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id, spec=SPEC)

    assert run(settings)

    job = job_row(sessions, job_id)
    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "unsupported_model")
    assert event_types(sessions, job_id) == ["queued", "started", "failed"]
    assert device_is_free(settings)


def test_one_job_at_the_most_is_run(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    jobs = [submit(sessions, key.project_id, spec=SPEC) for _ in range(2)]

    run(settings)

    assert [job_row(sessions, job_id).status for job_id in jobs] == ["failed", "queued"]


def test_the_device_is_held_while_the_job_runs(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit(sessions, key.project_id, spec=SPEC)
    seen = []
    monkeypatch.setattr(
        Attempt, "run", lambda attempt: seen.append(device_is_free(attempt.settings))
    )

    run(settings)

    assert seen == [False]


def test_a_job_says_which_worker_and_device_runs_it(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = submit(sessions, key.project_id, spec=SPEC)
    monkeypatch.setattr(Attempt, "run", lambda _: None)

    run(settings)

    worker = job_row(sessions, job_id).worker
    assert worker is not None
    assert worker.endswith(f":{os.getpid()}:cpu")


def test_the_device_is_free_again_after_a_supervisor_failed(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit(sessions, key.project_id, spec=SPEC)

    def fail(_: Attempt) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Attempt, "run", fail)

    with pytest.raises(RuntimeError, match="a bug"):
        run(settings)
    assert device_is_free(settings)


def test_a_job_whose_worker_cannot_write_is_tried_again(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id, spec=SPEC)
    settings.scratch_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.scratch_dir.write_text("a file where the folder should be: mkdir fails")

    run(settings)

    job = job_row(sessions, job_id)
    assert (job.status, job.failed_attempts) == ("queued", 1)


def test_a_supervisor_that_is_to_stop_claims_nothing(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id, spec=SPEC)
    stopping = threading.Event()
    stopping.set()

    assert not supervise(settings, ["cpu"], stopping)

    assert event_types(sessions, job_id) == ["queued"]
