"""One wake-up is enough for all that waits."""

import os
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from tests.faults.toy import SPEC, environment, make_toy
from tests.jobs import job_row, submit
from worker.devices import take_free
from worker.launcher import Launcher


@pytest.fixture
def launcher(settings: Settings, file_root: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    make_toy(file_root)
    given = settings.model_copy(update={"lease_seconds": 120})
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    return Launcher(given, ["cpu"])


def test_a_slot_goes_on_with_the_next_job(
    launcher: Launcher, sessions: sessionmaker[Session], key: NewKey
) -> None:
    jobs = [submit(sessions, key.project_id, spec=SPEC) for _ in range(2)]
    launcher.run_next()
    assert [job_row(sessions, job).status for job in jobs] == ["succeeded", "succeeded"]


def test_a_slot_that_gets_no_device_does_not_ask_on(
    launcher: Launcher, sessions: sessionmaker[Session], key: NewKey, settings: Settings
) -> None:
    job = submit(sessions, key.project_id, spec=SPEC)
    held = take_free(["cpu"], settings.devices_dir, cpu_memory_bytes=None)
    assert held is not None
    launcher.run_next()
    os.close(held.lock)
    assert job_row(sessions, job).status == "queued"
