"""``python -m worker.supervisor DEVICE…``: take a device, claim a job, see an attempt through.

Its stdin is the lifeline of the worker that started it; see launcher.py. How an attempt goes is in
attempt.py.
"""

import os
import signal
import socket
import sys
import threading
import time

from sqlalchemy.orm import Session, sessionmaker

from app import logs
from app.db import sync_engine
from app.jobs import moves, turns
from app.jobs.changes import ChangedJobs
from app.jobs.tables import Job
from app.settings import Settings
from pst_core.points import reached
from worker.attempt import Attempt
from worker.devices import take_free
from worker.held import HeldJob
from worker.leases import Lease
from worker.observing import observer
from worker.process import adopt_orphans


def main(devices: list[str]) -> None:
    settings = Settings()
    logs.configure(settings)
    observer.tell_to(sys.stdout.fileno())
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    # Ctrl-C reaches the whole terminal; the worker that started us says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_lifeline, args=(stopping,), daemon=True).start()
    adopt_orphans()
    supervise(settings, devices, stopping)


def supervise(settings: Settings, devices: list[str], stopping: threading.Event) -> bool:
    """Run at most one attempt; False where no device was free or no job waiting.

    The device comes first: whoever holds it asks for a job, so that a wake-up and the poll can
    never have two jobs for one device.
    """
    if stopping.is_set():
        return False
    device = take_free(
        devices, settings.devices_dir, cpu_memory_bytes=settings.trainer_memory_bytes
    )
    if device is None:
        return False
    try:
        sessions = sessionmaker(sync_engine(settings.database_url or ""), expire_on_commit=False)
        worker = f"{socket.gethostname()}:{os.getpid()}:{device.name}"
        # Before the statement: the lease must not last longer for us than for the database.
        claimed_at = time.monotonic()
        claim = moves.claim(
            worker=worker,
            lease_seconds=settings.lease_seconds,
            device=device.kind,
            memory_bytes=device.memory_bytes,
            max_running=settings.max_running_jobs,
        )
        reached("claim:sent")
        job = take(sessions, claim, settings.max_running_jobs)
        if job is None:
            return False
        reached("claim:committed")
        logs.name_work(job_id=job.id, attempt=job.attempt)
        observer.began(device.name)
        with Lease(settings, job.id, job.attempt, claimed_at=claimed_at) as lease:
            Attempt(
                settings=settings,
                held=HeldJob(sessions, job, lease),
                device=device,
                stopping=stopping,
                started=claimed_at,
            ).run()
        return True
    finally:
        os.close(device.lock)


def take(sessions: sessionmaker[Session], claim: ChangedJobs, max_running: int) -> Job | None:
    """The next job, of a project that may run it."""
    while True:
        with sessions() as session:
            job = session.scalars(claim).one_or_none()
            if job is None:
                return None
            lock, may_run = turns.check(job, max_running)
            session.execute(lock)
            if session.scalar(may_run):
                session.commit()
                return job
            # Others took the project's last places at the same time: the next claim sees so.


def _watch_lifeline(stopping: threading.Event) -> None:
    # Nobody writes to it: reading returns when the last writing end is closed.
    os.read(sys.stdin.fileno(), 1)
    stopping.set()


if __name__ == "__main__":
    main(sys.argv[1:])
