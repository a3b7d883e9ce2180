"""The three processes around Celery: what each does beside its tasks.

Not ``celery -A``: that would look for the app in the current folder first.
"""

import os
import warnings
from pathlib import Path

from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_init, worker_shutting_down

from app.datasets import queries as datasets
from app.db import sync_engine
from app.estimates import queries as estimates
from app.queue import JOBS_QUEUE, MAINTENANCE_QUEUE
from app.telemetry.listener import Role, listening
from app.telemetry.registry import new_registry
from worker.celery import celery_app, roles, settings
from worker.chores import Chore
from worker.deliveries import Courier, Dispatcher
from worker.launcher import Launcher
from worker.sweeper import Sweeper
from worker.telemetry import MaintenanceMetrics

# Celery warns root of pickled messages; only JSON is accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)


def start(role: str, devices: tuple[str, ...]) -> None:
    """Be one of them until it is stopped."""
    # Connected to, Celery sets up nothing of its own: its records are ours to format as well.
    setup_logging.connect(lambda **_: None, weak=False)
    {"jobs": lambda: run_jobs(devices), "maintenance": run_maintenance, "beat": run_beat}[role]()


def run_jobs(devices: tuple[str, ...]) -> None:
    launcher = Launcher(settings, devices)
    roles.launcher = launcher
    worker_init.connect(lambda **_: launcher.start_polling(), weak=False)
    worker_shutting_down.connect(lambda **_: launcher.shut_down(), weak=False)
    # Threads: one that waits for a supervisor costs nothing, and a fork while another thread
    # imports or holds a lock leaves a pool process waiting for it forever.
    with listening(settings, launcher.registry, Role.JOBS):
        try:
            _work(JOBS_QUEUE, "--pool=threads", f"--concurrency={len(devices)}")
        finally:
            launcher.shut_down()
            launcher.join()


def run_maintenance() -> None:
    registry = new_registry(settings)
    metrics = MaintenanceMetrics(registry)
    sweeper = Sweeper(settings, metrics)
    roles.sweeper = sweeper
    dispatcher = Dispatcher(settings, Courier(settings, metrics=metrics))
    worker_init.connect(lambda **_: sweeper.start_timer(), weak=False)
    worker_init.connect(lambda **_: dispatcher.start(), weak=False)
    worker_shutting_down.connect(lambda **_: dispatcher.stop(), weak=False)
    roles.chores = _chores()
    for chore in roles.chores:
        worker_init.connect(lambda *, start=chore.start, **_: start(), weak=False)
        worker_shutting_down.connect(lambda *, stop=chore.shut_down, **_: stop(), weak=False)
    with listening(settings, registry, Role.MAINTENANCE):
        _work(MAINTENANCE_QUEUE, "--pool=solo")


def _chores() -> tuple[Chore, ...]:
    """Each looks for work on its timer, and when a message says that there may be some."""
    engine = sync_engine(settings.database_url or "")
    seconds = settings.poll_seconds
    return (
        Chore(
            module="worker.checking", waits=datasets.any_unchecked, engine=engine, seconds=seconds
        ),
        Chore(module="worker.estimator", waits=estimates.waits, engine=engine, seconds=seconds),
    )


def run_beat() -> None:
    schedule = settings.data / "beat-schedule"
    Path(settings.data).mkdir(parents=True, exist_ok=True)
    options = [f"--schedule={schedule}", "--pidfile=", "--loglevel=WARNING"]
    celery_app.start(["--quiet", "beat", *options])


def _work(queue: str, *options: str) -> None:
    celery_app.worker_main(
        [
            "--quiet",
            "worker",
            f"--queues={queue}",
            f"--hostname={queue}-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=WARNING",
            *options,
        ]
    )
