"""A lease is renewed while it is held, brings cancels back, and is distrusted in time."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from tests.jobs import claim, job_row, submit
from worker.leases import Lease


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def is_asked(lease: Lease, *, asked: bool) -> bool:
    return lease.pause_requested == asked


def hold(settings: Settings, job: Job) -> Lease:
    return Lease(settings, job.id, job.attempt, claimed_at=time.monotonic())


def test_a_held_lease_is_renewed(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)

    with hold(settings, job) as lease:
        first = job.lease_until
        await_true(lambda: job_row(sessions, job.id).lease_until != first)
        assert not lease.lost


def test_a_renewal_brings_a_cancel_back(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    with hold(settings, job) as lease:
        assert not lease.cancel_requested
        with sessions.begin() as session:
            session.scalars(moves.request_cancel(key.project_id, job.id)).one()

        await_true(lambda: lease.cancel_requested)


def test_a_job_given_to_another_attempt_is_lost(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    with hold(settings, job) as lease:
        with sessions.begin() as session:
            session.execute(update(Job).values(attempt=Job.attempt + 1))

        await_true(lambda: lease.lost)


def test_a_lease_that_cannot_be_renewed_is_distrusted_before_it_ends(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions, lease_seconds=60)
    away = settings.model_copy(
        update={"database_url": "postgresql+psycopg://pst@/pst?host=/nowhere", "lease_seconds": 1}
    )
    with hold(away, job) as lease:
        assert not lease.lost
        await_true(lambda: lease.lost)

    assert job_row(sessions, job.id).status == "running"


def test_whoever_listens_is_told_until_when_a_lease_is_trusted(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    told: list[float] = []
    with hold(settings, claim(sessions)) as lease:
        with lease.telling(told.append):
            await_true(lambda: len(told) == 3)
        assert not lease.lost

    assert told == sorted(set(told))
    assert told[0] < time.monotonic() + settings.lease_seconds


def test_a_pause_that_is_withdrawn_is_withdrawn_for_the_worker_too(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    with hold(settings, job) as lease:
        for ask, asked in ((moves.request_pause, True), (moves.withdraw_pause, False)):
            with sessions.begin() as session:
                session.scalars(ask(key.project_id, job.id)).one()
            await_true(partial(is_asked, lease, asked=asked))


def test_a_process_that_does_not_let_go_of_a_lost_lease_ends() -> None:
    process = subprocess.run([sys.executable, "-P", "-c", HANGING], check=False, timeout=60)

    assert process.returncode == os.EX_TEMPFAIL


HANGING = """
import time
from app.settings import Settings
from worker.leases import Lease

settings = Settings(database_url="postgresql://pst@/pst?host=/nowhere", lease_seconds=0.5)
with Lease(settings, "job_1", 1, claimed_at=time.monotonic()):
    time.sleep(3600)
"""
