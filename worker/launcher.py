"""Starts supervisors: for a wake-up that Celery brought, and from a timer in case none came.

What a supervisor does with a job is in supervisor.py; both ways end in the same process.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from app import schema
from app.db import SchemaError, sync_engine
from app.jobs import moves
from app.settings import Settings
from app.telemetry.host import GpuCollector
from app.telemetry.registry import new_registry
from worker.devices import device_kind
from worker.scratch import remove_left
from worker.telemetry import AttemptMetrics, Listener

logger = logging.getLogger(__name__)


class Launcher:
    """Belongs to one Celery worker: threads of its own poll, those of its pool run wake-ups.

    All supervisors hold the reading end of one pipe as their stdin. It ends when this process
    closes the writing end or dies in whatever way: they then stop their trainers and give their
    jobs back.
    """

    def __init__(self, settings: Settings, devices: Sequence[str]) -> None:
        self._settings = settings
        self._devices = devices
        self._engine = sync_engine(settings.database_url or "")
        self._lifeline, self._lifeline_writer = os.pipe()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.registry = new_registry(settings)
        self.registry.register(GpuCollector())
        self._metrics = AttemptMetrics(self.registry)

    def start_polling(self) -> None:
        # One a device, since each waits for the supervisor it has started.
        for device in self._devices:
            thread = threading.Thread(target=self._poll, name=f"poll {device}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def shut_down(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            os.close(self._lifeline_writer)

    def join(self) -> None:
        """Wait for what was polled for to end: who runs us may kill what we leave behind."""
        for thread in self._threads:
            thread.join(self._settings.grace_seconds + self._settings.lease_seconds)

    def run_next(self) -> None:
        """Run jobs to their end as long as one waits, a device is free and nobody is faster."""
        while self._job_waits() and not self._stopping.is_set():
            if not self._run_one():
                return

    def _run_one(self) -> bool:
        """Whether it ran one, and may well run another: a host that is broken takes no more."""
        # A process a job: what a job leaks or breaks ends with it.
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.supervisor", *self._devices],
            stdin=self._lifeline,
            stdout=subprocess.PIPE,
        )
        listener = Listener(self._metrics)
        self._hear_out(supervisor, listener)
        if supervisor.returncode != 0:
            status = supervisor.returncode
            logger.error("a supervisor ended with status %d; its lease will expire", status)
        return listener.began and supervisor.returncode == 0

    def _hear_out(self, supervisor: subprocess.Popen[bytes], listener: Listener) -> None:
        """Count what a supervisor tells until it ends."""
        with supervisor:
            for line in supervisor.stdout or ():
                listener.hear(line)
        # By which it says that it had to let go of its job at once.
        listener.ended(supervisor.returncode, lost=supervisor.returncode == os.EX_TEMPFAIL)

    def _poll(self) -> None:
        while not self._stopping.wait(self._settings.poll_seconds):
            try:
                with self._engine.connect() as connection:
                    remove_left(self._settings, connection)
                self.run_next()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("cannot look for jobs: %s", error)

    def _job_waits(self) -> bool:
        # A cheap look: most wake-ups find their job taken, and a process costs half a second.
        kinds = map(device_kind, self._devices)
        waits = moves.any_claimable(*kinds, max_running=self._settings.max_running_jobs)
        with self._engine.connect() as connection:
            try:
                schema.check(connection)
            except SchemaError as error:
                # It was upgraded meanwhile: what runs ends, and nothing more is begun.
                logger.error("no job is taken: %s", error)  # noqa: TRY400 -- it says all
                return False
            return bool(connection.execute(waits).scalar())
