"""Waking workers through the broker. A wake-up names no job; losing one costs time, never a job."""

import asyncio
import logging
from contextlib import suppress

from celery import Celery
from kombu.exceptions import OperationalError

from pst_core.points import reached

logger = logging.getLogger(__name__)

JOBS_QUEUE = "jobs"
MAINTENANCE_QUEUE = "maintenance"
RUN_NEXT = "worker.run_next"
SWEEP = "worker.sweep"
DO_CHORES = "worker.do_chores"

BROKER_TIMEOUT = 2  # seconds; a caller never waits for a broker longer than a few of them

# What an API process owes to idle workers is paid in such steps: a message costs as much as a third
# of the request that asks for it, and who posts thousands of jobs has no thousands of workers.
_PAUSE_SECONDS = 0.1
_MOST_OWED = 32

# The transport's options are the same for who sends and who receives: the key prefix must be.
TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "socket_timeout": 5,
    "socket_connect_timeout": BROKER_TIMEOUT,
    "socket_keepalive": True,
    "health_check_interval": 30,
    "global_keyprefix": "pst:",
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
}


def sender(broker_url: str) -> Celery:
    app = Celery("pst-sender", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        broker_transport_options=TRANSPORT_OPTIONS | {"socket_timeout": BROKER_TIMEOUT},
        # The workers' timers look for jobs too: better to lose a wake-up than to wait here.
        task_publish_retry=False,
        broker_connection_timeout=BROKER_TIMEOUT,
    )
    return app


def wake(celery: Celery) -> bool:
    """Tell one idle worker to look for a job; False where the broker did not take it."""
    reached("wake:due")
    sent = _send(celery, RUN_NEXT, JOBS_QUEUE)
    if sent:
        reached("wake:sent")
    return sent


class Waker:
    """Of one API process: tells idle workers of jobs, some each second at the most."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._owed = 0
        self._paying: asyncio.Task[None] | None = None

    async def wake(self, jobs: int = 1) -> None:
        """Have as many idle workers look for a job; returns at once. Not before the commit."""
        self._owed = min(self._owed + jobs, _MOST_OWED)
        if self._paying is None or self._paying.done():
            self._paying = asyncio.create_task(self._pay())

    async def _pay(self) -> None:
        while self._owed:
            self._owed -= 1
            if not await asyncio.to_thread(wake, self._celery):
                self._owed = 0
            await asyncio.sleep(_PAUSE_SECONDS)

    async def stop(self) -> None:
        if self._paying is not None:
            self._paying.cancel()
            with suppress(asyncio.CancelledError):
                await self._paying


def wake_chores(celery: Celery) -> bool:
    """Tell a maintenance worker to look for chores; False where the broker did not take it."""
    return _send(celery, DO_CHORES, MAINTENANCE_QUEUE)


def _send(celery: Celery, task: str, queue: str) -> bool:
    try:
        celery.send_task(task, queue=queue, expires=3600)
    except OperationalError as error:
        logger.warning("no wake-up sent, the workers will find the work by asking: %s", error)
        return False
    return True


def ping(celery: Celery) -> bool:
    try:
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT)
            connection.default_channel.client.ping()
    except OperationalError:
        return False
    return True
