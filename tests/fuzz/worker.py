"""Somebody who takes the jobs that fuzzing makes, so that there are some in every state."""

import itertools
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries
from app.jobs import moves
from app.jobs.states import FAIL, SUCCEED
from app.jobs.tables import Job
from app.settings import Settings
from tests.jobs import leave
from tests.meanwhile import repeated
from tests.published import store

PAUSE_SECONDS = 0.05  # between two jobs


def worker(
    sessions: sessionmaker[Session], settings: Settings, folder: Path
) -> AbstractContextManager[None]:
    """Lets one job after the other run: some succeed, some fail, some go on running."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}", encoding="utf-8")
    ends = itertools.cycle((SUCCEED, FAIL, None))

    def work() -> None:
        job = _claim(sessions)
        end = next(ends)
        if job is None or end is None:
            return
        # What is retried ends without a checkpoint.
        if job.attempt == 1:
            store(sessions, settings, job, job.spec["formats"][0], checkpoint)
        if leave(sessions, end, job) is not None and end is SUCCEED:
            with sessions.begin() as session:
                session.execute(queries.publish(job.id, job.attempt))

    return repeated(work, every=PAUSE_SECONDS)


def _claim(sessions: sessionmaker[Session]) -> Job | None:
    with sessions.begin() as session:
        claimed = moves.claim(worker="fuzz", device="cpu", lease_seconds=3600)
        return session.scalars(claimed).one_or_none()
