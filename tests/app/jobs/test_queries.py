"""The statements under the fence: who gets a job, and who may still write to it."""

import threading

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries as artifact_queries
from app.ids import new_id
from app.jobs import moves
from app.jobs.states import CANCEL_RUNNING, FAIL, REQUEUE, SUCCEED, Move
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.jobs import claim, event_types, job_row, submit


def expire_lease(sessions: sessionmaker[Session], job_id: str) -> None:
    with sessions.begin() as session:
        past = moves.lease_end(-1)
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=past))


def sweep(sessions: sessionmaker[Session], move: Move, max_lost: int = 20) -> list[str]:
    with sessions.begin() as session:
        return [job.id for job in session.scalars(moves.expire(move, max_lost=max_lost))]


def test_second_claim_of_a_job_gets_nothing(sessions: sessionmaker[Session], key: NewKey) -> None:
    submit(sessions, key.project_id)
    claim(sessions)

    with sessions.begin() as session:
        again = session.scalars(
            moves.claim(worker="b", device="cpu", lease_seconds=30)
        ).one_or_none()

    assert again is None


def test_many_claimers_of_many_jobs_get_each_job_once(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    jobs = {submit(sessions, key.project_id) for _ in range(40)}
    claimed: list[str] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        while True:
            with sessions.begin() as session:
                job = session.scalars(
                    moves.claim(worker="w", device="cpu", lease_seconds=30)
                ).one_or_none()
            if job is None:
                return
            claimed.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == len(set(claimed))
    # A claimer that finds the next row locked may leave early; whoever holds it takes the next.
    assert set(claimed) == jobs


def test_a_claim_raises_the_attempt_and_writes_its_event(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)

    job = claim(sessions)

    assert (job.id, job.attempt, job.status) == (job_id, 1, "running")
    assert event_types(sessions, job_id) == ["queued", "started"]


def test_higher_priority_goes_first_then_the_older(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    old = submit(sessions, key.project_id)
    young = submit(sessions, key.project_id)
    urgent = submit(sessions, key.project_id, priority=5)

    assert [claim(sessions).id for _ in range(3)] == [urgent, old, young]


def test_a_project_with_nothing_running_goes_before_one_that_has(
    sessions: sessionmaker[Session], key: NewKey, foreign_key: NewKey
) -> None:
    first = submit(sessions, key.project_id)
    submit(sessions, key.project_id)
    other = submit(sessions, foreign_key.project_id)

    assert [claim(sessions).id for _ in range(2)] == [first, other]


@pytest.mark.parametrize("move", [SUCCEED, FAIL, CANCEL_RUNNING, REQUEUE])
def test_a_stale_attempt_changes_nothing(
    sessions: sessionmaker[Session], key: NewKey, move: Move
) -> None:
    job_id = submit(sessions, key.project_id)
    stale = claim(sessions)
    expire_lease(sessions, job_id)
    sweep(sessions, REQUEUE)
    claim(sessions)
    before = event_types(sessions, job_id)

    with sessions.begin() as session:
        held = (stale.id, stale.attempt)
        artifact = {
            "id": new_id("art"),
            "job_id": stale.id,
            "attempt": stale.attempt,
            "format": "packed",
            "name": "x.tar",
            "storage_key": "x",
        }
        results = [
            session.scalars(moves.leave_running(move, *held)).one_or_none(),
            session.execute(moves.renew(*held, lease_seconds=30)).one_or_none(),
            session.scalars(moves.record(*held, "phase", {})).one_or_none(),
            session.execute(artifact_queries.announce(artifact)).one_or_none(),
        ]

    assert results == [None, None, None, None]
    job = job_row(sessions, job_id)
    assert (job.status, job.attempt) == ("running", 2)
    assert event_types(sessions, job_id) == before


def test_an_expired_lease_puts_the_job_back_and_counts_the_loss(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    claim(sessions)
    expire_lease(sessions, job_id)

    assert sweep(sessions, REQUEUE) == [job_id]
    job = job_row(sessions, job_id)
    assert (job.status, job.lost_attempts, job.worker) == ("queued", 1, None)
    assert event_types(sessions, job_id) == ["queued", "started", "requeued"]


def test_a_live_lease_is_left_alone(sessions: sessionmaker[Session], key: NewKey) -> None:
    submit(sessions, key.project_id)
    claim(sessions)

    assert [sweep(sessions, move) for move in (REQUEUE, FAIL, CANCEL_RUNNING)] == [[], [], []]


def test_a_job_that_has_lost_too_many_attempts_fails(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    claim(sessions)
    expire_lease(sessions, job_id)

    assert sweep(sessions, REQUEUE, max_lost=1) == []
    assert sweep(sessions, FAIL, max_lost=1) == [job_id]


def test_an_expired_job_that_was_to_be_cancelled_is_cancelled(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    claim(sessions)
    with sessions.begin() as session:
        session.scalars(moves.request_cancel(key.project_id, job_id)).one()
    expire_lease(sessions, job_id)

    assert sweep(sessions, REQUEUE) == []
    assert sweep(sessions, CANCEL_RUNNING) == [job_id]
    assert job_row(sessions, job_id).status == "cancelled"


def test_renewal_and_sweep_at_the_same_time_have_one_winner(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    for _ in range(20):
        job_id = submit(sessions, key.project_id)
        job = claim(sessions)
        expire_lease(sessions, job_id)
        barrier = threading.Barrier(2)
        renewed: list[bool] = []

        def renew(barrier: threading.Barrier, job: Job, renewed: list[bool]) -> None:
            barrier.wait()
            with sessions.begin() as session:
                renewal = moves.renew(job.id, job.attempt, lease_seconds=30)
                renewed.append(session.execute(renewal).one_or_none() is not None)

        thread = threading.Thread(target=renew, args=(barrier, job, renewed))
        thread.start()
        barrier.wait()
        swept = sweep(sessions, REQUEUE)
        thread.join()

        assert renewed != [bool(swept)]
        with sessions.begin() as session:
            session.scalars(moves.leave_running(FAIL, job.id, job.attempt)).one_or_none()
            session.scalars(moves.cancel_waiting(key.project_id, job_id)).one_or_none()
