"""POST /jobs/{id}/cancel at each state of a job."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.states import CANCEL_RUNNING, FAIL, SUCCEED, Move
from tests.jobs import claim, event_types


@pytest.fixture
def job_id(client: TestClient, spec: dict[str, object]) -> str:
    return str(client.post("/jobs", json=spec).json()["id"])


def test_a_queued_job_is_cancelled_at_once(
    client: TestClient, sessions: sessionmaker[Session], job_id: str
) -> None:
    job = client.post(f"/jobs/{job_id}/cancel").json()

    assert job["status"] == "cancelled"
    assert job["finished_at"]
    assert event_types(sessions, job_id) == ["queued", "cancelled"]


def test_a_running_job_is_asked_to_stop_once_however_often_it_is_said(
    client: TestClient, sessions: sessionmaker[Session], job_id: str
) -> None:
    claim(sessions)

    answers = [client.post(f"/jobs/{job_id}/cancel") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert answers[0].json()["status"] == "running"
    assert answers[0].json()["cancel_requested"]
    assert event_types(sessions, job_id) == ["queued", "started", "cancel_requested"]


def test_cancelling_a_cancelled_job_changes_nothing(
    client: TestClient, sessions: sessionmaker[Session], job_id: str
) -> None:
    client.post(f"/jobs/{job_id}/cancel")

    assert client.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert event_types(sessions, job_id) == ["queued", "cancelled"]


@pytest.mark.parametrize(("move", "state"), [(SUCCEED, "succeeded"), (FAIL, "failed")])
def test_a_job_that_has_ended_cannot_be_cancelled(
    client: TestClient, sessions: sessionmaker[Session], job_id: str, move: Move, state: str
) -> None:
    job = claim(sessions)
    with sessions.begin() as session:
        session.scalars(moves.leave_running(move, job.id, job.attempt)).one()

    answer = client.post(f"/jobs/{job_id}/cancel")

    assert answer.status_code == 409
    assert state in answer.json()["detail"]
    assert client.get(f"/jobs/{job_id}").json()["status"] == state


def test_a_worker_that_learns_of_the_cancel_ends_the_job(
    client: TestClient, sessions: sessionmaker[Session], job_id: str
) -> None:
    job = claim(sessions)
    client.post(f"/jobs/{job_id}/cancel")

    with sessions.begin() as session:
        renewal = session.execute(moves.renew(job.id, job.attempt, lease_seconds=30)).one()
        session.scalars(moves.leave_running(CANCEL_RUNNING, job.id, job.attempt)).one()

    assert renewal.cancel_requested
    assert client.get(f"/jobs/{job_id}").json()["status"] == "cancelled"
