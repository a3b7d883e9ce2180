"""A job that this process holds: writes to the database that matter, for as long as it does."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Executable
from sqlalchemy.orm import Session, sessionmaker

from app.db import DATABASE_AWAY
from app.jobs.tables import Job
from worker.endings import NotOurs
from worker.leases import Lease

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HeldJob:
    """What stands between this process and the database.

    Args:
        sessions: For short transactions; the lease has a connection of its own.
        job: As claimed.
        lease: How long it is ours.
    """

    sessions: sessionmaker[Session]
    job: Job
    lease: Lease

    def persist(self, write: Callable[[Session], bool]) -> bool:
        """Run a transaction, for as long as the database is away and the job ours."""
        while not self.lease.lost:
            try:
                with self.sessions.begin() as session:
                    return write(session)
            except DATABASE_AWAY as error:
                logger.warning("%s: waiting for the database: %s", self.job.id, error)
                time.sleep(RETRY_SECONDS)
        return False

    def require(self, *statements: Executable) -> None:
        """Run statements in one transaction, each of which must match a row.

        Raises:
            NotOurs: One did not: the attempt's fence has fallen.
        """

        def write(session: Session) -> bool:
            for statement in statements:
                if session.execute(statement).first() is None:
                    session.rollback()
                    return False
            return True

        if not self.persist(write):
            raise NotOurs
