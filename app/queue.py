"""Waking workers through the broker. A wake-up names no job; losing one costs time, never a job."""

import logging

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
