"""Repairs what lost processes and messages leave: expired leases, jobs nobody was woken for.

Safe in several processes at once; runs from a timer of its own, so that it needs no broker.
"""

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from app import queue
from app.db import sync_engine
from app.jobs import moves
from app.jobs.states import CANCEL_RUNNING, FAIL, REQUEUE
from app.settings import Settings

logger = logging.getLogger(__name__)

WORKER_LOST = {
    "code": "worker_lost",
    "message": "The job lost too many workers.",
    "remedy": "See the workers' logs; post the job again once they are well.",
    "retryable": True,
}


class Sweeper:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions = sessionmaker(sync_engine(settings.database_url or ""))
        self._sender = queue.sender(settings.broker_url or "")

    def start_timer(self) -> None:
        threading.Thread(target=self._run, name="sweep", daemon=True).start()

    def sweep(self) -> None:
        max_lost = self._settings.max_lost_attempts
        # Cancelled ones first: they are neither failures nor to be tried again.
        for move, values in (
            (CANCEL_RUNNING, {}),
            (FAIL, {"error": WORKER_LOST}),
            (REQUEUE, {}),
        ):
            with self._sessions.begin() as session:
                expired = moves.expire(move, max_lost=max_lost, values=values)
                for job in session.scalars(expired):
                    logger.warning("%s: attempt %d expired: %s", job.id, job.attempt, move.event)
        with self._sessions() as session:
            waiting = session.scalar(moves.any_claimable())
        if waiting:
            queue.wake(self._sender)

    def _run(self) -> None:
        # A second timer besides beat's: sweeps must go on when the broker does not.
        tick = threading.Event()
        while not tick.wait(self._settings.sweep_seconds):
            try:
                self.sweep()
            except SQLAlchemyError as error:
                logger.warning("cannot sweep: %s", error)
