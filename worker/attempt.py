"""One attempt at a job: train in one process, verify in a fresh one, publish, and say how it ended.

Claiming the job is the supervisor's, starting and stopping processes is process.py's.
"""

import errno
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Executable
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries as artifact_queries
from app.db import DATABASE_AWAY
from app.ids import new_id
from app.jobs import moves
from app.jobs.states import CANCEL_RUNNING, FAIL, REQUEUE, SUCCEED, Move
from app.jobs.tables import Job
from app.settings import Settings
from app.storage import LocalStorage
from pst_core.errors import PstError
from pst_core.events import EVENT, FailureEvent, ResultEvent
from pst_core.references import locate_dataset, locate_model
from pst_core.report import Report
from pst_core.spec import CompressionSpec
from worker.devices import Device
from worker.leases import Lease
from worker.process import ChildProcess
from worker.publish import write_archive
from worker.recorder import Recordable, Recorder

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MAX_PENDING_EVENTS = 1000
STOPPED = (75, -signal.SIGTERM)  # EX_TEMPFAIL: stopped on request


class Ending(Exception):  # noqa: N818 -- most endings are no errors
    """How the attempt ends. Without a move the job is no longer ours: leave it alone."""

    def __init__(self, move: Move | None, **values: object) -> None:
        super().__init__(move and move.event)
        self.move = move
        self.values = values


def failure(code: str, message: str, **more: object) -> Ending:
    return Ending(FAIL, error={"code": code, "message": message, **more})


@dataclass(kw_only=True, slots=True)
class Attempt:
    """What an attempt works with.

    Args:
        job: As claimed.
        stopping: Set when this worker is shut down.
    """

    settings: Settings
    sessions: sessionmaker[Session]
    job: Job
    device: Device
    lease: Lease
    stopping: threading.Event
    started: float

    def run(self) -> None:
        """Work until the attempt has ended, and write how."""
        scratch = self.settings.scratch_dir / self.job.id / f"a{self.job.attempt}"
        try:
            self._remove_earlier(scratch)
            scratch.mkdir(parents=True)
            self._work(scratch)
        except Ending as ending:
            self._leave(ending)
        except Exception as error:
            # Whatever it is, the next attempt would meet it again: better to say so now.
            logger.exception("%s: the attempt failed here", self.job.id)
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            code = "disk_full" if full else "internal"
            self._leave(failure(code, f"The worker failed: {type(error).__name__}."))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            with suppress(OSError):  # another attempt's folder is in it
                scratch.parent.rmdir()

    @staticmethod
    def _remove_earlier(scratch: Path) -> None:
        # What killed attempts left is of no use; a later one's folder is not ours to touch.
        for number in range(int(scratch.name[1:])):
            shutil.rmtree(scratch.with_name(f"a{number}"), ignore_errors=True)

    def _work(self, scratch: Path) -> None:
        spec = CompressionSpec.model_validate(self.job.spec)
        sources = self._sources(spec)
        task = {"spec": self.job.spec, "sources": sources, "out": str(scratch / "out")}
        report = self._run_child({"task": "compress", **task}, scratch, spec)
        # A process of its own: it can only know what was written.
        self._run_child({"task": "verify", **task}, scratch, spec)
        if report is None:
            raise failure("protocol", "The trainer ended well and reported no result.")
        self._publish(spec, report, scratch / "out")

    def _sources(self, spec: CompressionSpec) -> dict[str, Any]:
        roots = self.settings.file_roots
        try:
            model = locate_model(spec.model, roots=roots)
            dataset = locate_dataset(spec.dataset.ref, roots=roots)
        except PstError as error:
            raise failure(
                error.code, error.message, field=error.field, remedy=error.remedy
            ) from error
        return {"model": str(model), "dataset": str(dataset.path), "where": dataset.where}

    def _run_child(
        self, task: Mapping[str, Any], scratch: Path, spec: CompressionSpec
    ) -> Report | None:
        recorder = Recorder(self.sessions, self.job.id, self.job.attempt)
        report: Report | None = None
        with ChildProcess(task, scratch=scratch, device=self.device) as child:
            try:
                for line in child.lines():
                    self._check(spec, recorder)
                    event = None if line is None else _parse(line)
                    if isinstance(event, ResultEvent):
                        report = event.report
                    elif event is not None:
                        self._record(recorder, event)
                # Its pipe has ended; the process should follow at once.
                status = child.wait(self.settings.grace_seconds)
                self._judge(status, child)
            except Ending as ending:
                # A job that is no longer ours is not worth a grace time: leaving the block kills.
                if ending.move is not None:
                    child.stop(self.settings.grace_seconds)
                    recorder.drain(lambda: self.lease.lost)
                raise
        recorder.drain(lambda: self.lease.lost)
        return report

    @staticmethod
    def _record(recorder: Recorder, event: Recordable) -> None:
        recorder.add(event)
        if recorder.pending_events > MAX_PENDING_EVENTS:
            raise failure("protocol", "The trainer reports more than can be written.")

    def _judge(self, status: int, child: ChildProcess) -> None:
        """What a child's exit status means for the attempt; nothing if it is 0."""
        if status == 0:
            return
        self._check_asked()
        if status in STOPPED:
            # Whoever stopped it stopped it alone; nothing is wrong with the job.
            raise Ending(REQUEUE)
        logger.error("%s: the trainer's output ends with:\n%s", self.job.id, child.log_tail())
        how = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
        raise failure(
            "trainer_crashed",
            f"The trainer {how}.",
            remedy="Signal 9 often means too little memory: lower batch_size then.",
            retryable=True,
        )

    def _check(self, spec: CompressionSpec, recorder: Recorder) -> None:
        """Look for a reason to stop; called several times a second."""
        recorder.flush()
        if recorder.fenced:
            raise Ending(None)
        self._check_asked()
        limit = spec.limits.wall_seconds
        if limit is not None and time.monotonic() - self.started > limit:
            raise failure(
                "timeout",
                f"The attempt ran longer than {limit} s.",
                field="limits.wall_seconds",
                remedy="Raise the limit, or train fewer epochs.",
            )

    def _publish(self, spec: CompressionSpec, report: Report, out: Path) -> None:
        storage = LocalStorage(self.settings.storage_dir)
        for format_name in (name for name in spec.formats if name not in report.outcome.refused):
            root = f"{self.job.id}-{format_name}"
            artifact = {
                "id": new_id("art"),
                "job_id": self.job.id,
                "attempt": self.job.attempt,
                "format": format_name,
                "name": f"{root}.tar",
            }
            key = f"{self.job.project_id}/{self.job.id}/a{self.job.attempt}/{artifact['id']}.tar"
            # The row comes first: an object that no row names could never be found again.
            self._transact(artifact_queries.announce({**artifact, "storage_key": key}))
            with storage.write(key) as target:
                files = write_archive(out / format_name, root, target, on_read=self._check_asked)
            described = artifact_queries.describe(
                str(artifact["id"]), size=target.size, sha256=target.sha256, files=files
            )
            self._transact(described)
        raise Ending(SUCCEED, result=report.model_dump(mode="json"))

    def _check_asked(self) -> None:
        if self.lease.lost:
            raise Ending(None)
        if self.lease.cancel_requested.is_set():
            raise Ending(CANCEL_RUNNING)
        if self.stopping.is_set():
            raise Ending(REQUEUE)

    def _persist(self, write: Callable[[Session], bool]) -> bool:
        """Run a transaction, for as long as the database is away and the job ours."""
        while not self.lease.lost:
            try:
                with self.sessions.begin() as session:
                    return write(session)
            except DATABASE_AWAY as error:
                logger.warning("%s: waiting for the database: %s", self.job.id, error)
                time.sleep(RETRY_SECONDS)
        return False

    def _transact(self, statement: Executable) -> None:
        if not self._persist(lambda session: session.execute(statement).first() is not None):
            raise Ending(None)

    def _leave(self, ending: Ending) -> None:
        move = ending.move
        if move is None or not self._persist(lambda session: self._write_ending(session, ending)):
            logger.warning("%s: attempt %d is no longer ours", self.job.id, self.job.attempt)

    def _write_ending(self, session: Session, ending: Ending) -> bool:
        held = (self.job.id, self.job.attempt)
        error = ending.values.get("error")
        data = {"error": error} if error else {}
        # A cancel may have been accepted just now: then the job is cancelled, not given back.
        moves = [ending.move, CANCEL_RUNNING] if ending.move is REQUEUE else [ending.move]
        for move in moves:
            left = (
                move
                and session.scalars(
                    moves.leave_running(move, *held, data=data, values=ending.values)
                ).one_or_none()
            )
            if left:
                if move is SUCCEED:
                    session.execute(artifact_queries.publish(*held))
                return True
        return False


def _parse(line: bytes) -> Recordable | ResultEvent:
    """An event line; a failure it reports ends the attempt, and so does a line that is none."""
    try:
        event = EVENT.validate_json(line)
    except ValidationError as error:
        raise failure("protocol", "The trainer wrote a line that is no event.") from error
    if b"\\u0000" in line:  # PostgreSQL stores no NUL
        raise failure("protocol", "The trainer wrote a NUL.")
    if isinstance(event, FailureEvent):
        raise Ending(FAIL, error=event.model_dump(exclude={"type"}))
    return event
