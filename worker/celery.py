"""The Celery app, its settings, its tasks; what they do is in launcher.py, sweeper.py, chores.py.

Why these settings: docs/decisions/0003-celery-wakes-supervisors-run.md.
"""

from dataclasses import dataclass

from celery import Celery

from app.queue import (
    DO_CHORES,
    JOBS_QUEUE,
    MAINTENANCE_QUEUE,
    RUN_NEXT,
    SWEEP,
    TRANSPORT_OPTIONS,
)
from app.settings import Settings
from worker.chores import Chore
from worker.launcher import Launcher
from worker.sweeper import Sweeper


@dataclass(slots=True)
class Roles:
    """What the tasks work with; each is set in the process that serves its queue."""

    launcher: Launcher | None = None
    sweeper: Sweeper | None = None
    chores: tuple[Chore, ...] = ()


settings = Settings()
roles = Roles()
celery_app = Celery("pst", broker=settings.broker_url)
celery_app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    # A wake-up is spent when it is received: the database says what is still to do.
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    task_acks_on_failure_or_timeout=True,
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options=TRANSPORT_OPTIONS,
    task_publish_retry=True,
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1, "interval_max": 0.2},
    task_time_limit=None,
    task_soft_time_limit=None,
    task_routes={
        RUN_NEXT: {"queue": JOBS_QUEUE},
        SWEEP: {"queue": MAINTENANCE_QUEUE},
        DO_CHORES: {"queue": MAINTENANCE_QUEUE},
    },
    beat_schedule={
        "sweep": {
            "task": SWEEP,
            "schedule": settings.sweep_seconds,
            "options": {"expires": settings.sweep_seconds},
        }
    },
)


@celery_app.task(name=RUN_NEXT)
def run_next() -> None:
    if roles.launcher is not None:
        roles.launcher.run_next()


@celery_app.task(name=SWEEP)
def sweep() -> None:
    if roles.sweeper is not None:
        roles.sweeper.sweep()


@celery_app.task(name=DO_CHORES)
def do_chores() -> None:
    for chore in roles.chores:
        chore.wake()
