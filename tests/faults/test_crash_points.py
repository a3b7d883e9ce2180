"""A supervisor that ends hard at any moment that matters leaves a job that another one finishes.

Each test crashes at one of the moments that an undisturbed attempt passes, lets the lease end and a
sweep run, and starts supervisors until the job has ended.
"""

from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from tests.faults.crashing import CRASHED, run_supervisor
from tests.faults.toy import SPEC, Remains, expected_result, make_toy
from tests.jobs import event_types, job_row, submit
from worker.scratch import remove_left
from worker.sweeper import Sweeper

# In the order in which an undisturbed attempt comes by.
ARRIVALS = [
    "claim:sent",
    "claim:committed",
    *(
        3
        * [
            "object:announced",
            "storage:written",
            "storage:linked",
            "object:stored",
            "object:described",
            "snapshot:stored",
        ]
    ),
    "object:announced",
    "storage:written",
    "storage:linked",
    "object:stored",
    "object:described",
    "attempt:ending",
    "attempt:ended",
]


@pytest.fixture
def settings(settings: Settings, file_root: Path) -> Settings:
    make_toy(file_root)
    # Long enough for a slow machine: a test ends leases itself.
    return settings.model_copy(update={"lease_seconds": 120, "max_lost_attempts": 3})


@pytest.fixture
def remains(settings: Settings, sessions: sessionmaker[Session]) -> Remains:
    return Remains(settings, sessions)


def finish(settings: Settings, sessions: sessionmaker[Session], job_id: str, log: Path) -> None:
    """Let leases end, sweep, and go on until the job has ended."""
    for _ in range(5):
        with sessions.begin() as session:
            past = {"lease_until": moves.lease_end(-1)}
            session.execute(update(Job).where(Job.status == "running").values(past))
        Sweeper(settings).sweep()
        if job_row(sessions, job_id).status in ("succeeded", "failed", "cancelled"):
            return
        assert run_supervisor(settings, log) == 0
    raise AssertionError("it never ended")


def test_an_undisturbed_attempt_comes_by_all_these_moments(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    remains: Remains,
    tmp_path: Path,
) -> None:
    log = tmp_path / "arrivals"
    job_id = submit(sessions, key.project_id, spec=SPEC)

    assert run_supervisor(settings, log) == 0
    assert remains.result(job_id) == expected_result()
    assert log.read_text().split() == ARRIVALS


@pytest.mark.parametrize("crash_at", range(len(ARRIVALS)), ids=ARRIVALS)
def test_after_a_crash_the_job_ends_as_if_there_had_been_none(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    engine: Engine,
    remains: Remains,
    tmp_path: Path,
    crash_at: int,
) -> None:
    log = tmp_path / "arrivals"
    job_id = submit(sessions, key.project_id, spec=SPEC)
    assert run_supervisor(settings, log, crash_at=crash_at) == CRASHED
    assert log.read_text().split() == ARRIVALS[: crash_at + 1]

    finish(settings, sessions, job_id, log)

    assert remains.result(job_id) == expected_result()
    # Snapshots of a job that has succeeded are of no more use.
    for _ in range(2):
        Sweeper(settings).sweep()
    with engine.connect() as connection:
        remove_left(settings, connection)
    remains.check_nothing_is_left()
    lost = "requeued" in event_types(sessions, job_id)
    assert lost == (ARRIVALS[crash_at] not in ("claim:sent", "attempt:ended"))
