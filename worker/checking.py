"""``python -m worker.checking``: take one uploaded dataset, have it read, write what came of it.

A process of its own each time (chores.py starts it), as is the child that reads (profiler.py).
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session, sessionmaker

from app import logs
from app.datasets import queries
from app.datasets.tables import Dataset, State
from app.db import sync_engine
from app.settings import Settings
from app.storage import open_storage
from pst_core.events import FailureEvent
from pst_core.points import reached
from worker.devices import Device, take_free
from worker.joblog import JobLog
from worker.memory import oom_kills
from worker.objects import is_intact
from worker.process import ChildProcess, adopt_orphans
from worker.profile_event import TOLD, ProfileEvent, Told
from worker.scratch import folder_of, make, remove

logger = logging.getLogger(__name__)

PROFILER = ("-P", "-m", "worker.profiler")
SLOT = "checks"  # of this host, as a device is: one file is read at a time
OUTPUT_BYTES = 2**20  # of any file that the child may write
AGAIN_SECONDS = 5.0  # from a check that was lost to the next


class CheckLostError(Exception):
    """A check ended without having found anything; another may."""


def main() -> int:
    settings = Settings()
    logs.configure(settings)
    adopt_orphans()
    slot = take_free([SLOT], settings.devices_dir, cpu_memory_bytes=settings.check_memory_bytes)
    if slot is None:  # another worker of this host is at it
        return os.EX_TEMPFAIL
    try:
        return check_next(settings, slot)
    finally:
        os.close(slot.lock)


def check_next(settings: Settings, slot: Device) -> int:
    """Check at most one dataset, and say how that went, as an exit status."""
    sessions = sessionmaker(sync_engine(settings.database_url or ""), expire_on_commit=False)
    with sessions.begin() as session:
        claim = queries.claim_check(settings.lease_seconds)
        dataset = session.scalars(claim).one_or_none()
    if dataset is None:
        return os.EX_OK
    reached("check:claimed")
    check = Check(settings, sessions, dataset, slot)
    try:
        return check.run()
    except (CheckLostError, OSError) as error:
        check.leave()
        logger.warning("%s: check %d was lost: %s", dataset.id, dataset.attempt, error)
        return os.EX_TEMPFAIL


@dataclass(frozen=True, slots=True)
class Check:
    """One attempt at checking one dataset."""

    settings: Settings
    sessions: sessionmaker[Session]
    dataset: Dataset
    slot: Device

    def run(self) -> int:
        scratch = folder_of(self.settings, self.dataset.id, self.dataset.attempt)
        try:
            told = self._look(scratch)
        finally:
            remove(scratch)
        if isinstance(told, ProfileEvent):
            profile = told.profile.model_dump(mode="json")
            self._write(State.READY, profile=profile, error=None)
        else:
            error = told.model_dump(mode="json", include={"code", "message", "remedy"})
            self._write(State.INVALID, error=error)
        reached("check:written")
        return os.EX_OK

    def _look(self, scratch: Path) -> Told:
        make(scratch)
        # The readers go by the suffix.
        path = scratch / self.dataset.file_name
        with self._kept():
            open_storage(self.settings).place(self.dataset.storage_key, path)
            intact = is_intact(path, self.dataset.sha256)
        if not intact:
            return FailureEvent(
                code="internal",
                message="Its bytes are not those that were uploaded.",
                remedy="Upload it again.",
            )
        return self._ask({"path": str(path), "kind": self.dataset.format}, scratch)

    def _ask(self, task: dict[str, Any], scratch: Path) -> Told:
        """What the child says of the file; it is believed only what a profile can be."""
        log = JobLog()
        seconds = self.settings.check_seconds
        limits = {"CPU": int(seconds) + 1, "FSIZE": OUTPUT_BYTES}
        kills_before = oom_kills()
        with ChildProcess(
            task, scratch=scratch, device=self.slot, log=log, program=PROFILER, limits=limits
        ) as child:
            until = time.monotonic() + seconds
            renewed, told = 0.0, None
            for line in child.lines():
                if time.monotonic() > until:
                    return _too_slow(seconds)
                if time.monotonic() - renewed > self.settings.renew_seconds:
                    renewed = time.monotonic()
                    self._renew(child)
                if line is not None:
                    told = told or _parse(line)
            status = child.wait(self.settings.grace_seconds)
        if told is not None:
            return told
        return self._judge(status, log, killed=oom_kills() > kills_before)

    def _judge(self, status: int, log: JobLog, *, killed: bool) -> Told:
        """Why a child has ended without a word."""
        logger.warning("%s: the check's output ends with:\n%s", self.dataset.id, log.recent())
        if status in (-signal.SIGXCPU, -signal.SIGXFSZ):
            return _too_slow(self.settings.check_seconds)
        if killed:
            return FailureEvent(
                code="invalid_dataset",
                message="Reading it takes more memory than a check may use.",
                remedy="Shorten its longest rows, or give Parquet smaller row groups.",
            )
        raise CheckLostError(f"the child ended with {status}")

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep the check ours while its bytes come; from a bucket that may take minutes."""
        here = threading.Event()

        def keep() -> None:
            while not here.wait(self.settings.renew_seconds):
                self._prolong()

        with ThreadPoolExecutor(1) as threads:
            kept = threads.submit(keep)
            try:
                yield
            finally:
                here.set()
            kept.result()

    def _renew(self, child: ChildProcess) -> None:
        # Before the statement: it must not last longer for the child than for the database.
        until = time.monotonic() + self.settings.lease_seconds
        self._prolong()
        child.lifeline.prolong(until)

    def _prolong(self) -> None:
        with self.sessions.begin() as session:
            renewal = queries.renew_check(self.dataset, self.settings.lease_seconds)
            if session.scalars(renewal).one_or_none() is None:
                raise CheckLostError("it is another's, or was deleted")

    def leave(self) -> None:
        """Let another check begin soon, if this one still counts."""
        with self.sessions.begin() as session:
            session.execute(queries.leave_check(self.dataset, after_seconds=AGAIN_SECONDS))

    def _write(self, state: State, **values: object) -> None:
        with self.sessions.begin() as session:
            end = queries.end_check(self.dataset, state, **values)
            if session.scalars(end).one_or_none() is None:
                raise CheckLostError("it is another's, or was deleted")


def _parse(line: bytes) -> Told:
    """Raises: CheckLostError: The line is nothing that could be stored."""
    try:
        told = TOLD.validate_json(line)
    except ValidationError as error:
        raise CheckLostError("the child wrote a line that is no profile") from error
    if b"\\u0000" in line:  # PostgreSQL stores no NUL
        raise CheckLostError("the child wrote a NUL")
    return told


def _too_slow(seconds: float) -> FailureEvent:
    return FailureEvent(
        code="invalid_dataset",
        message=f"Reading it took longer than the {seconds:g} s that a check may take.",
        remedy="Upload it in parts, or have the operator raise PST_CHECK_SECONDS.",
    )


if __name__ == "__main__":
    sys.exit(main())
