"""Two and more at the same moment, in real threads, against the real database."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from app.db import CONNECT_ARGS
from app.jobs import moves
from app.jobs.changes import ChangedJobs
from app.jobs.states import FAIL, PAUSE_RUNNING, REQUEUE, SUCCEED
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.jobs import claim, event_types, job_row, leave, let_pass, submit, sweep

First = TypeVar("First")
Second = TypeVar("Second")

THREADS = 8
ACTIONS_EACH = 25


@pytest.fixture
def pooled(engine: Engine) -> Iterator[sessionmaker[Session]]:
    """A thread's next transaction takes the connection of its last."""
    pool = create_engine(engine.url, pool_size=THREADS + 1, connect_args=CONNECT_ARGS)
    yield sessionmaker(pool, expire_on_commit=False)
    pool.dispose()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as threads:
        yield threads


def at_once(
    threads: ThreadPoolExecutor, first: Callable[[], First], second: Callable[[], Second]
) -> tuple[First, Second]:
    barrier = threading.Barrier(2)

    def other() -> Second:
        barrier.wait()
        return second()

    result = threads.submit(other)
    barrier.wait()
    return first(), result.result()


def ask(sessions: sessionmaker[Session], statement: ChangedJobs) -> bool:
    with sessions.begin() as session:
        return session.scalars(statement).one_or_none() is not None


def test_cancel_and_finish_have_one_winner_and_an_accepted_cancel_is_it(
    pooled: sessionmaker[Session], threads: ThreadPoolExecutor, key: NewKey
) -> None:
    for _ in range(100):
        submit(pooled, key.project_id)
        job = claim(pooled)
        cancel = moves.request_cancel(key.project_id, job.id)

        left, accepted = at_once(
            threads,
            partial(leave, pooled, SUCCEED, job),
            partial(ask, pooled, cancel),
        )

        status = "cancelled" if accepted else "succeeded"
        assert left is not None
        assert left.status == job_row(pooled, job.id).status == status
        assert event_types(pooled, job.id)[2:] == ["cancel_requested"] * accepted + [status]


def test_renew_and_expire_have_one_winner(
    pooled: sessionmaker[Session], threads: ThreadPoolExecutor, key: NewKey
) -> None:
    def renew(job: Job) -> bool:
        with pooled.begin() as session:
            renewal = moves.renew(job.id, job.attempt, lease_seconds=30)
            return session.execute(renewal).one_or_none() is not None

    submit(pooled, key.project_id)
    for _ in range(200):
        job = claim(pooled)
        let_pass(pooled, job.id, 60)

        swept, renewed = at_once(
            threads,
            partial(sweep, pooled, REQUEUE, max_lost=1000),
            partial(renew, job),
        )

        assert renewed is not bool(swept)
        assert job_row(pooled, job.id).status == ("running" if renewed else "queued")
        if renewed:
            leave(pooled, REQUEUE, job)


def test_many_who_move_one_job_leave_no_gap_in_its_events(
    pooled: sessionmaker[Session], threads: ThreadPoolExecutor, key: NewKey
) -> None:
    job_id = submit(pooled, key.project_id)
    barrier = threading.Barrier(THREADS)
    owners = (
        moves.cancel_waiting,
        moves.request_cancel,
        moves.pause_queued,
        moves.request_pause,
        moves.withdraw_pause,
        moves.resume,
        moves.retry,
    )

    def work(seed: int) -> None:
        chance = random.Random(seed)
        barrier.wait()
        for _ in range(ACTIONS_EACH):
            job = job_row(pooled, job_id)
            match chance.randrange(4):
                case 0:
                    ask(pooled, moves.claim(worker="w", device="cpu", lease_seconds=30))
                case 1:
                    leave(pooled, chance.choice([FAIL, REQUEUE, PAUSE_RUNNING]), job)
                case 2:
                    ask(pooled, moves.record(job.id, job.attempt, "phase", {}))
                case _:
                    ask(pooled, chance.choice(owners)(key.project_id, job_id))

    list(threads.map(work, range(THREADS)))

    types = event_types(pooled, job_id)
    assert job_row(pooled, job_id).event_seq == len(types)
    assert len(types) > THREADS
