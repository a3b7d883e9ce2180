"""A worker's moves out of ``running``, under the fence, and what the owner asked for meanwhile."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries as artifact_queries
from app.artifacts.tables import Kind
from app.ids import new_id
from app.jobs import moves, queries
from app.jobs.changes import ChangedJobs
from app.jobs.states import CANCEL_RUNNING, FAIL, PAUSE_RUNNING, REQUEUE, SUCCEED, Move
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.jobs import (
    claim,
    event_types,
    job_row,
    leave,
    let_pass,
    submit,
    sweep,
    wait_until_one_waits,
)

Ask = Callable[[str, str], ChangedJobs]

OUT = [SUCCEED, FAIL, REQUEUE, PAUSE_RUNNING, CANCEL_RUNNING]


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


def ask(sessions: sessionmaker[Session], job: Job, *what: Ask) -> None:
    for statement in what:
        with sessions.begin() as session:
            session.scalars(statement(job.project_id, job.id)).one()


@pytest.mark.parametrize("move", OUT, ids=lambda move: move.event)
def test_a_cancel_that_was_accepted_wins_over_whatever_the_worker_wants(
    sessions: sessionmaker[Session], job: Job, move: Move
) -> None:
    ask(sessions, job, moves.request_pause, moves.request_cancel)

    left = leave(sessions, move, job)

    assert left is not None
    assert (left.status, left.pause_requested) == ("cancelled", False)
    assert event_types(sessions, job.id)[-1] == "cancelled"


@pytest.mark.parametrize(
    ("move", "status"),
    [(SUCCEED, "succeeded"), (FAIL, "failed"), (REQUEUE, "paused"), (PAUSE_RUNNING, "paused")],
)
def test_a_job_that_was_to_be_paused_is_not_queued_and_may_have_ended(
    sessions: sessionmaker[Session], job: Job, move: Move, status: str
) -> None:
    ask(sessions, job, moves.request_pause)

    left = leave(sessions, move, job)

    assert left is not None
    assert (left.status, left.pause_requested) == (status, False)


@pytest.mark.parametrize("move", [REQUEUE, PAUSE_RUNNING, CANCEL_RUNNING])
def test_a_job_that_stops_for_a_pause_that_was_withdrawn_is_queued(
    sessions: sessionmaker[Session], job: Job, move: Move
) -> None:
    ask(sessions, job, moves.request_pause, moves.withdraw_pause)

    left = leave(sessions, move, job)

    assert left is not None
    assert left.status == "queued"


def test_a_pause_that_is_withdrawn_while_the_worker_leaves_waits_until_it_has_left(
    engine: Engine, sessions: sessionmaker[Session], job: Job
) -> None:
    ask(sessions, job, moves.request_pause)
    withdrawn: list[Job | None] = []

    def withdraw() -> None:
        with sessions.begin() as session:
            statement = moves.withdraw_pause(job.project_id, job.id)
            withdrawn.append(session.scalars(statement).one_or_none())

    owner = threading.Thread(target=withdraw)
    with sessions.begin() as session:
        *before, pause, cancel = moves.leave_running(PAUSE_RUNNING, job.id, job.attempt)
        found = [session.scalars(statement).one_or_none() for statement in before]
        owner.start()
        wait_until_one_waits(engine)
        found += [session.scalars(statement).one_or_none() for statement in (pause, cancel)]
    owner.join()

    assert [left.status for left in found if left] == ["paused"]
    assert withdrawn == [None]


def test_columns_and_data_are_those_of_the_move_that_was_made(
    sessions: sessionmaker[Session], job: Job
) -> None:
    ask(sessions, job, moves.request_cancel)
    error = {"code": "internal", "message": "The worker failed."}

    with sessions.begin() as session:
        for statement in moves.leave_running(
            FAIL, job.id, job.attempt, data={"error": error}, values={"error": error}
        ):
            session.scalars(statement).one_or_none()

    assert job_row(sessions, job.id).error is None


@pytest.mark.parametrize("move", OUT, ids=lambda move: move.event)
def test_whoever_has_left_holds_nothing(
    sessions: sessionmaker[Session], job: Job, move: Move
) -> None:
    left = leave(sessions, move, job)

    assert left is not None
    held = (left.lease_until, left.claimed_at, left.worker, left.phase, left.pause_requested)
    assert held == (None, None, None, None, False)
    assert leave(sessions, move, job) is None


@pytest.mark.parametrize("move", OUT, ids=lambda move: move.event)
def test_a_stale_attempt_changes_nothing(
    sessions: sessionmaker[Session], key: NewKey, move: Move
) -> None:
    job_id = submit(sessions, key.project_id)
    stale = claim(sessions)
    let_pass(sessions, job_id, 3600)
    sweep(sessions, REQUEUE)
    claim(sessions)
    before = event_types(sessions, job_id)

    with sessions.begin() as session:
        held = (stale.id, stale.attempt)
        artifact = {
            "id": new_id("art"),
            "job_id": stale.id,
            "attempt": stale.attempt,
            "kind": Kind.CHECKPOINT,
            "format": "packed",
            "name": "x.tar",
            "storage_key": "x",
        }
        results = [
            *(session.scalars(each).one_or_none() for each in moves.leave_running(move, *held)),
            session.execute(moves.renew(*held, lease_seconds=30)).one_or_none(),
            session.scalars(moves.record(*held, "phase", {})).one_or_none(),
            session.scalar(queries.set_progress(*held, {}).returning(Job.id)),
            session.execute(artifact_queries.announce(artifact)).one_or_none(),
        ]

    assert set(results) == {None}
    job = job_row(sessions, job_id)
    assert (job.status, job.attempt) == ("running", 2)
    assert event_types(sessions, job_id) == before


def test_a_stale_attempt_changes_nothing_of_the_run_that_a_retry_started(
    sessions: sessionmaker[Session], job: Job
) -> None:
    let_pass(sessions, job.id, 3600)
    sweep(sessions, REQUEUE)
    ask(sessions, job, moves.cancel_waiting, moves.retry)

    assert leave(sessions, SUCCEED, job) is None
    assert claim(sessions).id == job.id
    assert leave(sessions, SUCCEED, job) is None
    row = job_row(sessions, job.id)
    assert (row.status, row.run, row.attempt) == ("running", 2, 2)


def test_a_renewal_brings_back_what_was_asked_for(
    sessions: sessionmaker[Session], job: Job
) -> None:
    def renew() -> tuple[bool, bool]:
        with sessions.begin() as session:
            row = session.execute(moves.renew(job.id, job.attempt, lease_seconds=30)).one()
            return row.cancel_requested, row.pause_requested

    seen = [renew()]
    for what in (moves.request_pause, moves.withdraw_pause, moves.request_cancel):
        ask(sessions, job, what)
        seen.append(renew())

    assert seen == [(False, False), (False, True), (False, False), (True, False)]


def test_the_time_that_a_job_ran_adds_up_over_its_attempts(
    sessions: sessionmaker[Session], job: Job
) -> None:
    with sessions.begin() as session:
        values = {"claimed_at": moves.lease_end(-100), "lease_until": moves.lease_end(30)}
        session.execute(update(Job).values(values))
    leave(sessions, REQUEUE, job)
    again = claim(sessions)
    let_pass(sessions, job.id, 10)

    left = leave(sessions, SUCCEED, again)

    assert left is not None
    assert 110 <= left.ran_seconds < 200
