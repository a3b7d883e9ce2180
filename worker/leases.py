"""The lease on a running job: renewed on a thread and connection of its own, distrusted in time.

What is done about a cancel or a pause that comes back with a renewal is the attempt's.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from app.db import sync_engine
from app.jobs import moves
from app.settings import Settings

logger = logging.getLogger(__name__)

JOIN_SECONDS = 10
TRUSTED_SHARE = 0.8  # of the lease's length; the rest is for killing a trainer
LEAVE_SHARE = 0.1  # of the lease's length: how long that may take before the process ends itself
TICK = 0.2  # seconds


class Lease:
    """Renews from the moment it is entered until it is left.

    Args:
        settings: Lengths and the database.
        job_id: Whose lease it is.
        attempt: The fencing token it was claimed under.
        claimed_at: ``time.monotonic()`` from before the claim was sent.
    """

    def __init__(self, settings: Settings, job_id: str, attempt: int, *, claimed_at: float) -> None:
        self._settings = settings
        self._job_id = job_id
        self._attempt = attempt
        self._renewed_at = claimed_at
        self._left = threading.Event()
        self._refused = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_left, name="lease", daemon=True)
        self._watch = threading.Thread(target=self._exit_once_lost, name="watch", daemon=True)
        self._hear: Callable[[float], None] = _unheard
        self.cancel_requested = False
        self.pause_requested = False

    @property
    def lost(self) -> bool:
        """True once somebody else may have the job, by the database's word or by our own clock."""
        return self._refused.is_set() or time.monotonic() > self._trusted_until

    @property
    def _trusted_until(self) -> float:
        return self._renewed_at + self._settings.lease_seconds * TRUSTED_SHARE

    @contextmanager
    def telling(self, hear: Callable[[float], None]) -> Iterator[None]:
        """Have somebody told until when it is trusted: now, and with each renewal.

        Args:
            hear: Takes a ``time.monotonic()``; called on the lease's thread too.
        """
        self._hear = hear
        hear(self._trusted_until)
        try:
            yield
        finally:
            self._hear = _unheard

    def __enter__(self) -> Self:
        self._thread.start()
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        # It may hang in a call to the database; the process does not wait for it then.
        self._thread.join(JOIN_SECONDS)

    def _renew_until_left(self) -> None:
        engine = sync_engine(self._settings.database_url or "")
        while not self._left.wait(self._settings.renew_seconds) and not self.lost:
            asked_at = time.monotonic()
            renewal = moves.renew(
                self._job_id, self._attempt, lease_seconds=self._settings.lease_seconds
            )
            try:
                with engine.begin() as connection:
                    row = connection.execute(renewal).one_or_none()
            except SQLAlchemyError as error:
                logger.warning("%s: the lease was not renewed: %s", self._job_id, error)
                continue
            if row is None:
                self._refused.set()
                return
            self._renewed_at = asked_at
            self._hear(self._trusted_until)
            self.cancel_requested = row.cancel_requested
            # It may have been withdrawn.
            self.pause_requested = row.pause_requested

    def _exit_once_lost(self) -> None:
        """Whatever the process hangs in: no trainer may outlive the lease, and it dies with us."""
        while not self._left.wait(TICK):
            if self.lost and not self._left.wait(self._settings.lease_seconds * LEAVE_SHARE):
                logger.error("%s: lost, and not let go of: this process ends", self._job_id)
                os._exit(os.EX_TEMPFAIL)


def _unheard(_: float) -> None:
    """Nobody is to be told."""
