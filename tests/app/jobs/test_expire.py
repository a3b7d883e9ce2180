"""What a sweep does: jobs whose worker is lost, and jobs that have waited too long."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.changes import ChangedJobs
from app.jobs.moves import Backoff
from app.jobs.states import CANCEL_RUNNING, FAIL, PAUSE_RUNNING, REQUEUE, Move
from app.jobs.tables import Job, JobEvent
from app.projects.service import NewKey
from tests.jobs import SPEC, bring_to, claim, event_types, job_row, let_pass, submit, sweep

Act = Callable[[str, str], ChangedJobs]

EXPIRIES = [CANCEL_RUNNING, PAUSE_RUNNING, FAIL, REQUEUE]
ERROR = {"code": "queue_timeout", "message": "Nobody took the job."}


def lose(sessions: sessionmaker[Session], key: NewKey, state: str = "running") -> str:
    """A job in a state, whose worker has not been heard of for an hour."""
    job_id = bring_to(sessions, key.project_id, state)
    let_pass(sessions, job_id, 3600)
    return job_id


def waits_for(sessions: sessionmaker[Session], job_id: str) -> float:
    seconds = func.extract("epoch", Job.not_before - func.clock_timestamp())
    with sessions() as session:
        return float(session.scalars(select(seconds).where(Job.id == job_id)).one())


@pytest.mark.parametrize("move", EXPIRIES, ids=lambda move: move.event)
def test_a_live_lease_is_left_alone(
    sessions: sessionmaker[Session], key: NewKey, move: Move
) -> None:
    for state in ("running", "pausing", "cancelling"):
        bring_to(sessions, key.project_id, state)

    assert sweep(sessions, move, max_lost=1) == []


@pytest.mark.parametrize(
    ("state", "max_lost", "taken_by"),
    [
        ("running", 2, REQUEUE),
        ("running", 1, FAIL),
        ("pausing", 2, PAUSE_RUNNING),
        ("pausing", 1, PAUSE_RUNNING),
        ("cancelling", 2, CANCEL_RUNNING),
        ("cancelling", 1, CANCEL_RUNNING),
    ],
)
def test_an_expired_job_is_taken_by_exactly_one_of_the_moves(
    sessions: sessionmaker[Session], key: NewKey, state: str, max_lost: int, taken_by: Move
) -> None:
    job_id = lose(sessions, key, state)

    others = [move for move in EXPIRIES if move is not taken_by]
    assert [sweep(sessions, move, max_lost=max_lost) for move in others] == [[], [], []]
    assert sweep(sessions, taken_by, max_lost=max_lost) == [job_id]
    job = job_row(sessions, job_id)
    assert (job.status, job.lost_attempts, job.worker) == (taken_by.target, 1, None)
    assert event_types(sessions, job_id)[-1] == taken_by.event


def test_what_was_asked_of_a_job_counts_although_it_is_lost_for_both_reasons(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = bring_to(sessions, key.project_id, "pausing")
    with sessions.begin() as session:
        session.scalars(moves.request_cancel(key.project_id, job_id)).one()
    let_pass(sessions, job_id, 3600)

    assert [sweep(sessions, move) for move in (PAUSE_RUNNING, FAIL, REQUEUE)] == [[], [], []]
    assert sweep(sessions, CANCEL_RUNNING) == [job_id]


def test_the_event_of_a_lost_job_says_why_and_of_a_failed_one_with_its_error(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = lose(sessions, key)
    error = {"code": "worker_lost", "message": "The job lost too many workers."}

    sweep(sessions, FAIL, max_lost=1, values={"error": error})

    with sessions() as session:
        newest = select(JobEvent).where(JobEvent.type == "failed")
        assert session.scalars(newest).one().data == {"reason": "lease_expired", "error": error}
    assert job_row(sessions, job_id).error == error


@pytest.mark.parametrize(
    ("lost_before", "seconds"), [(0, 5), (1, 10), (2, 20), (6, 320), (7, 600), (10**6, 600)]
)
def test_each_attempt_that_is_lost_makes_the_job_wait_twice_as_long_up_to_a_limit(
    sessions: sessionmaker[Session], key: NewKey, lost_before: int, seconds: float
) -> None:
    job_id = lose(sessions, key)
    with sessions.begin() as session:
        session.execute(update(Job).values(lost_attempts=lost_before))

    sweep(sessions, REQUEUE, max_lost=10**7, backoff=Backoff(first_seconds=5, most_seconds=600))

    assert seconds - 4 < waits_for(sessions, job_id) <= seconds


def test_a_lost_attempt_ran_no_longer_than_its_lease_however_late_it_is_swept(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = bring_to(sessions, key.project_id, "running")
    let_pass(sessions, job_id, 24 * 3600)

    sweep(sessions, REQUEUE)

    assert job_row(sessions, job_id).ran_seconds == pytest.approx(30, abs=1)


def queue(
    sessions: sessionmaker[Session], key: NewKey, limits: dict[str, Any], waited: float
) -> str:
    job_id = submit(sessions, key.project_id, spec={**SPEC, "limits": limits})
    let_pass(sessions, job_id, waited)
    return job_id


def time_out(sessions: sessionmaker[Session]) -> list[str]:
    with sessions.begin() as session:
        return [job.id for job in session.scalars(moves.time_out_queued(ERROR))]


@pytest.mark.parametrize(
    ("limits", "late"),
    [({"queue_seconds": 60}, True), ({"queue_seconds": 3600}, False), ({}, False)],
)
def test_a_job_fails_once_it_has_waited_longer_than_it_may(
    sessions: sessionmaker[Session], key: NewKey, limits: dict[str, Any], late: bool
) -> None:
    job_id = queue(sessions, key, limits, waited=100)

    assert time_out(sessions) == ([job_id] if late else [])
    job = job_row(sessions, job_id)
    assert (job.status, job.error) == (("failed", ERROR) if late else ("queued", None))
    assert event_types(sessions, job_id) == (["queued", "failed"] if late else ["queued"])


def test_a_spec_from_before_there_were_limits_of_waiting_has_none(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    queue(sessions, key, {}, waited=10**6)
    with sessions.begin() as session:
        session.execute(update(Job).values(spec={**SPEC, "limits": {"wall_seconds": None}}))

    assert time_out(sessions) == []


@pytest.mark.parametrize("state", ["running", "paused", "succeeded", "cancelled"])
def test_only_waiting_for_a_worker_counts(
    sessions: sessionmaker[Session], key: NewKey, state: str
) -> None:
    job_id = bring_to(sessions, key.project_id, state)
    with sessions.begin() as session:
        limited = {**SPEC, "limits": {"queue_seconds": 60}}
        session.execute(update(Job).values(spec=limited))
    let_pass(sessions, job_id, 3600)

    assert time_out(sessions) == []


@pytest.mark.parametrize("again", [moves.resume, moves.retry])
def test_a_job_that_is_queued_again_waits_from_then_on(
    sessions: sessionmaker[Session], key: NewKey, again: Act
) -> None:
    job_id = queue(sessions, key, {"queue_seconds": 60}, waited=3600)
    leave_queue = moves.pause_queued if again is moves.resume else moves.cancel_waiting
    with sessions.begin() as session:
        for statement in (leave_queue, again):
            session.scalars(statement(key.project_id, job_id)).one()

    assert time_out(sessions) == []


def test_the_time_for_which_a_lost_job_is_made_to_wait_does_not_count(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = queue(sessions, key, {"queue_seconds": 60}, waited=0)
    claim(sessions)
    let_pass(sessions, job_id, 3600)
    sweep(sessions, REQUEUE, backoff=Backoff(first_seconds=600))

    let_pass(sessions, job_id, 650)
    assert time_out(sessions) == []
    let_pass(sessions, job_id, 20)
    assert time_out(sessions) == [job_id]
