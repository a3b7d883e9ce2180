"""What lost workers and messages leave behind is repaired, once, and by no more than it takes."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from tests.jobs import claim, event_types, job_row, leave, submit
from tests.wake_ups import WakeUps
from worker.endings import WORKER_LOST
from worker.sweeper import Sweeper


@pytest.fixture
def sweeper(settings: Settings) -> Sweeper:
    return Sweeper(settings)


def lose(sessions: sessionmaker[Session], key: NewKey) -> Job:
    """A running job whose lease has ended."""
    submit(sessions, key.project_id)
    return claim(sessions, lease_seconds=0)


def test_a_job_whose_lease_has_ended_goes_back_to_the_queue(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey
) -> None:
    lost = lose(sessions, key)
    sweeper.sweep()

    job = job_row(sessions, lost.id)
    assert (job.status, job.lost_attempts, job.attempt) == ("queued", 1, 1)
    assert (job.lease_until, job.worker, job.phase, job.finished_at) == (None, None, None, None)
    assert event_types(sessions, job.id) == ["queued", "started", "requeued"]


def test_the_attempt_that_lost_it_cannot_finish_it_any_more(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey
) -> None:
    lost = lose(sessions, key)
    sweeper.sweep()
    claim(sessions)

    assert leave(sessions, SUCCEED, lost) is None
    assert job_row(sessions, lost.id).status == "running"


def test_a_job_that_was_to_be_cancelled_is_cancelled_and_not_tried_again(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey
) -> None:
    lost = lose(sessions, key)
    with sessions.begin() as session:
        session.scalars(moves.request_cancel(key.project_id, lost.id)).one()
    sweeper.sweep()

    job = job_row(sessions, lost.id)
    assert job.status == "cancelled"
    assert job.finished_at is not None
    assert event_types(sessions, job.id)[-1] == "cancelled"


def test_a_job_that_lost_too_many_attempts_fails_with_worker_lost(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    sweeper = Sweeper(settings.model_copy(update={"max_lost_attempts": 3}))
    job_id = submit(sessions, key.project_id)
    statuses = []
    for _ in range(3):
        claim(sessions, lease_seconds=0)
        sweeper.sweep()
        statuses.append(job_row(sessions, job_id).status)

    job = job_row(sessions, job_id)
    assert statuses == ["queued", "queued", "failed"]
    assert job.error == WORKER_LOST
    assert job.finished_at is not None


def test_a_job_whose_lease_holds_is_left_alone(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    held = claim(sessions, lease_seconds=3600)
    sweeper.sweep()

    assert job_row(sessions, held.id).status == "running"
    assert event_types(sessions, held.id) == ["queued", "started"]


def test_a_job_that_has_ended_is_left_alone(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey
) -> None:
    ended = lose(sessions, key)
    assert leave(sessions, SUCCEED, ended) is not None
    sweeper.sweep()

    assert event_types(sessions, ended.id) == ["queued", "started", "succeeded"]


def test_sweeps_at_the_same_time_repair_a_job_once(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    lost = [lose(sessions, key) for _ in range(5)]
    ready = threading.Barrier(4)

    def sweep() -> None:
        sweeper = Sweeper(settings)
        ready.wait(60)
        sweeper.sweep()

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for job in lost:
        assert event_types(sessions, job.id) == ["queued", "started", "requeued"]
        assert job_row(sessions, job.id).lost_attempts == 1


def test_a_sweep_does_not_wait_for_a_row_that_somebody_works_on(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey
) -> None:
    busy, free = lose(sessions, key), lose(sessions, key)
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == busy.id).values(priority=1))
        sweeper.sweep()

    assert job_row(sessions, busy.id).status == "running"
    assert job_row(sessions, free.id).status == "queued"


def test_a_waiting_job_gets_another_wake_up(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey, wake_ups: WakeUps
) -> None:
    submit(sessions, key.project_id)
    sweeper.sweep()

    assert len(wake_ups) == 1


def test_a_job_that_was_just_requeued_gets_a_wake_up(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey, wake_ups: WakeUps
) -> None:
    lose(sessions, key)
    sweeper.sweep()

    assert len(wake_ups) == 1


def test_nobody_is_woken_for_a_job_that_may_not_start_yet(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey, wake_ups: WakeUps
) -> None:
    submit(sessions, key.project_id)
    with sessions.begin() as session:
        session.execute(update(Job).values(not_before=datetime(9999, 1, 1, tzinfo=UTC)))
    sweeper.sweep()

    assert len(wake_ups) == 0


def test_nobody_is_woken_for_a_job_that_runs(
    sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey, wake_ups: WakeUps
) -> None:
    submit(sessions, key.project_id)
    claim(sessions)
    sweeper.sweep()

    assert len(wake_ups) == 0


def test_a_sweep_needs_no_broker(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    sweeper = Sweeper(settings.model_copy(update={"broker_url": "redis://127.0.0.1:1"}))
    lost = lose(sessions, key)
    sweeper.sweep()

    assert job_row(sessions, lost.id).status == "queued"


def test_the_timer_goes_on_after_sweeps_that_failed(settings: Settings) -> None:
    failures = iter([OSError("the disk"), OperationalError("", {}, Exception("the database"))])

    def fail() -> None:
        raise next(failures, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        Sweeper(settings.model_copy(update={"sweep_seconds": 0.01}))._run(fail)
