"""GET /jobs/{id}: how a job stands, how long it may still take, and whether it has changed."""

from datetime import UTC, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves, queries
from app.jobs.states import FAIL, PAUSE_RUNNING, REQUEUE, SUCCEED, Move
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.jobs import bring_to, claim, job_row, leave, let_pass, submit, sweep

PROGRESS: dict[str, Any] = {
    "stage": "main",
    "step": 3,
    "total_steps": 12,
    "loss": 0.5,
    "sparsity": 0.2,
    "learning_rate": 1e-4,
    "eta_seconds": 90.0,
}


def show(client: TestClient, job_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = client.get(f"/jobs/{job_id}").raise_for_status().json()
    return shown


def train(sessions: sessionmaker[Session], job: Job) -> None:
    """As if its worker had told of some progress."""
    held = (job.id, job.attempt)
    with sessions.begin() as session:
        session.scalars(moves.record(*held, "phase", {"phase": "training"}, phase="training")).one()
        session.execute(queries.set_progress(*held, PROGRESS))


def test_a_job_shows_its_phases_and_since_when_each_lasts(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    train(sessions, claim(sessions))

    shown = show(client, job_id)["phases"]

    assert [at["phase"] for at in shown] == ["queued", "preparing", "training"]
    ends = [at["finished_at"] for at in shown]
    assert ends == [shown[1]["started_at"], shown[2]["started_at"], None]


def test_what_an_earlier_release_stored_besides_is_passed_over(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    before = show(client, job_id)
    stored = job_row(sessions, job_id)
    spec = stored.spec | {"of_old": 1, "hyperparameters": {"of_old": 1}}
    of_old = {"spec": spec, "hyperparameters": stored.hyperparameters | {"of_old": 1}}
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(of_old))

    assert show(client, job_id) == before
    (listed,) = client.get("/jobs").raise_for_status().json()["data"]
    assert listed["spec"] == before["spec"]


def test_a_claimed_job_is_preparing(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = bring_to(sessions, key.project_id, "running")

    assert show(client, job_id)["phase"] == "preparing"


def test_progress_is_told_as_steps_and_as_a_fraction(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    train(sessions, claim(sessions))

    progress = show(client, job_id)["progress"]

    assert (progress["step"], progress["total_steps"], progress["fraction"]) == (3, 12, 0.25)


def test_the_eta_is_when_progress_was_told_and_the_time_that_it_said(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    train(sessions, claim(sessions))
    told_at = job_row(sessions, job_id).progress_at

    shown = client.get(f"/jobs/{job_id}").json()["eta"]

    assert told_at is not None
    assert (
        shown
        == (told_at.astimezone(UTC).replace(tzinfo=None) + timedelta(seconds=90)).isoformat() + "Z"
    )


def test_no_eta_is_told_before_this_attempt_has_told_of_progress(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    before = show(client, job_id)["eta"]
    job = claim(sessions)
    train(sessions, job)
    leave(sessions, REQUEUE, job)
    requeued = show(client, job_id)["eta"]
    again = claim(sessions)
    phase = moves.record(again.id, again.attempt, "phase", {"phase": "training"}, phase="training")
    with sessions.begin() as session:
        session.scalars(phase).one()

    assert (before, requeued, show(client, job_id)["eta"]) == (None, None, None)


def test_a_job_that_is_tried_again_says_why_and_from_when(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    job = claim(sessions)
    error = {"code": "hub_unavailable", "message": "The hub cannot be reached."}
    data = {"reason": "hub_unavailable", "error": error}
    with sessions.begin() as session:
        for statement in moves.leave_running(REQUEUE, job.id, job.attempt, data=data):
            session.scalars(statement).all()

    requeue = show(client, job_id)["requeue"]

    next_try = job_row(sessions, job_id).not_before.astimezone(UTC).replace(tzinfo=None)
    assert requeue == {
        "reason": error["code"],
        "message": error["message"],
        "next_try_at": next_try.isoformat() + "Z",
    }


def test_a_lost_attempt_is_a_reason_without_a_message_until_the_next_begins(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    before = show(client, job_id)["requeue"]
    claim(sessions, lease_seconds=30)
    let_pass(sessions, job_id, 3600)
    sweep(sessions, REQUEUE)
    requeue = show(client, job_id)["requeue"]
    let_pass(sessions, job_id, 3600)
    claim(sessions)

    assert (requeue["reason"], requeue["message"]) == ("lease_expired", None)
    assert (before, show(client, job_id)["requeue"]) == (None, None)


@pytest.mark.parametrize("move", [REQUEUE, PAUSE_RUNNING, FAIL, SUCCEED], ids=lambda m: m.event)
def test_device_seconds_count_over_attempts_and_runs(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, move: Move
) -> None:
    job_id = submit(sessions, key.project_id)
    leave(sessions, FAIL, later(sessions, claim(sessions), 20))
    client.post(f"/jobs/{job_id}/retry")
    leave(sessions, move, later(sessions, claim(sessions), 10))

    assert show(client, job_id)["device_seconds"] == pytest.approx(30, abs=5)


def test_device_seconds_of_a_lost_attempt_count_to_the_end_of_its_lease(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    claim(sessions, lease_seconds=30)
    let_pass(sessions, job_id, 3600)
    sweep(sessions, REQUEUE)

    assert show(client, job_id)["device_seconds"] == pytest.approx(30, abs=1)


def later(sessions: sessionmaker[Session], job: Job, seconds: float) -> Job:
    """The job, claimed so much earlier."""
    with sessions.begin() as session:
        claimed_at = moves.lease_end(-seconds)
        session.execute(update(Job).where(Job.id == job.id).values(claimed_at=claimed_at))
    return job
