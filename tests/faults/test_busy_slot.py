"""While the only slot is busy, a job that lost its worker goes back to the queue all the same."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.projects.service import NewKey
from app.settings import Settings
from tests.faults.chaos.processes import Managed
from tests.faults.toy import SPEC, environment, make_toy
from tests.jobs import claim, event_types, job_row, submit

PATIENCE = 60  # seconds; guards against hanging


@pytest.fixture(params=["with a broker", "without a broker"])
def settings(settings: Settings, file_root: Path, request: pytest.FixtureRequest) -> Settings:
    make_toy(file_root, steps=100_000, step_seconds=0.05)
    gone = f"{settings.broker_url}.gone"
    return settings.model_copy(
        update={
            "broker_url": settings.broker_url if request.param == "with a broker" else gone,
            "poll_seconds": 0.2,
            "sweep_seconds": 0.2,
        }
    )


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[dict[str, Managed]]:
    """By their roles; a test starts them."""
    workers = {
        role: Managed(role, ["worker", role], environment(settings), tmp_path / f"{role}.log", [])
        for role in ("jobs", "maintenance")
    }
    yield workers
    assert [role for role, worker in workers.items() if not worker.stop(PATIENCE)] == []


def await_event(sessions: sessionmaker[Session], job_id: str, kind: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while kind not in event_types(sessions, job_id):
        assert time.monotonic() < deadline, f"{job_id} was never {kind}"
        time.sleep(0.05)


def test_a_lost_job_is_requeued_while_the_only_slot_is_busy(
    sessions: sessionmaker[Session], key: NewKey, workers: dict[str, Managed]
) -> None:
    busy = submit(sessions, key.project_id, spec=SPEC)
    workers["jobs"].tend()
    await_event(sessions, busy, "started")
    lost = submit(sessions, key.project_id, spec=SPEC)
    assert claim(sessions, lease_seconds=-1).id == lost

    workers["maintenance"].tend()
    await_event(sessions, lost, "requeued")

    assert job_row(sessions, lost).status == "queued"
    assert (job_row(sessions, busy).status, job_row(sessions, busy).attempt) == ("running", 1)
    with sessions.begin() as session:
        session.scalars(moves.request_cancel(key.project_id, busy)).one()
    await_event(sessions, busy, "cancelled")
