"""One attempt at a job: train in one process, verify in a fresh one, publish, and say how it ended.

Claiming the job is the supervisor's, starting and stopping processes is process.py's.
"""

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from app.artifacts import queries as artifact_queries
from app.artifacts.tables import Kind
from app.estimates import queries as estimate_queries
from app.estimates.measured import Measured
from app.jobs import moves
from app.jobs.states import Status
from app.jobs.tables import Job
from app.logs.redaction import Redactor, secrets_of
from app.settings import Settings
from app.storage import open_storage
from pst_core.points import reached
from pst_core.report import Report
from pst_core.spec import CompressionSpec
from worker.conversation import Conversation
from worker.deadlines import Deadlines
from worker.devices import Device
from worker.endings import (
    Cancelled,
    Ending,
    Failed,
    GivenBack,
    Next,
    NotOurs,
    Paused,
    Standing,
    Succeeded,
)
from worker.held import HeldJob
from worker.joblog import JobLog, LogParts
from worker.objects import Objects
from worker.observing import observer
from worker.publish import OutputError, write_archive
from worker.scratch import folder_of, make, remove
from worker.snapshots import SnapshotStore
from worker.sources import SourceFinder

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Attempt:
    """What an attempt works with.

    Args:
        held: The job, as claimed.
        stopping: Set when this worker is shut down.
        started: ``time.monotonic()`` of its claim.
    """

    settings: Settings
    held: HeldJob
    device: Device
    stopping: threading.Event
    started: float
    # Takes our secrets out of what children print and tell.
    hide: Callable[[bytes], bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.hide = Redactor(secrets_of(self.settings)).known

    def run(self) -> None:
        """Work until the attempt has ended, and write how."""
        job = self.held.job
        scratch = folder_of(self.settings, job.id, job.attempt)
        objects = Objects(self.held, open_storage(self.settings))
        log = JobLog(self.hide)
        parts = LogParts(log, objects)
        snapshots = SnapshotStore(objects, scratch / "snapshots", self._check_wanted)
        try:
            ending = self._end(scratch, log, parts, snapshots)
            parts.store_rest()
            reached("attempt:ending")
            self._leave(ending, got_further=snapshots.got_further)
            reached("attempt:ended")
        except NotOurs:
            self._note_loss()
        finally:
            remove(scratch)

    def _end(self, scratch: Path, log: JobLog, parts: LogParts, snapshots: SnapshotStore) -> Ending:
        try:
            make(scratch)
            return self._work(scratch, log, parts, snapshots)
        except Ending as ending:
            return ending
        except NotOurs:
            raise
        except OutputError as error:
            logger.warning("%s: %s", self.held.job.id, error)
            return Failed("protocol", "The trainer left something else than was asked for.")
        except OSError as error:
            logger.exception("%s: the attempt failed here", self.held.job.id)
            return _refused(error)
        except Exception as error:
            # Whatever it is, the next attempt would meet it again: better to say so now.
            logger.exception("%s: the attempt failed here", self.held.job.id)
            return Failed("internal", f"The worker failed: {type(error).__name__}.")

    def _work(
        self, scratch: Path, log: JobLog, parts: LogParts, snapshots: SnapshotStore
    ) -> Succeeded:
        spec = CompressionSpec.model_validate(self.held.job.spec)
        children = Conversation(
            held=self.held,
            device=self.device,
            deadlines=Deadlines.of(spec.limits, self.settings, self.held.job, self.started),
            log=log,
            parts=parts,
            snapshots=snapshots,
            check_asked=self._check_asked,
            grace_seconds=self.settings.grace_seconds,
            hide=self.hide,
        )
        task = {
            **SourceFinder(self.settings, snapshots.objects, children, scratch).find(spec),
            "out": str(scratch / "out"),
        }
        snapshots.fetch()
        every = self.settings.snapshot_seconds
        saved = {"folder": str(snapshots.folder), "every_seconds": every}
        report = children.run({"task": "compress", "snapshots": saved, **task}, scratch).report
        # A process of its own: it can only know what was written.
        children.run({"task": "verify", **task}, scratch)
        if report is None:
            raise Failed("protocol", "The trainer ended well and reported no result.")
        held = (self.held.job.id, self.held.job.attempt)
        self.held.require(moves.record(*held, "phase", {"phase": "uploading"}, phase="uploading"))
        observer.phase("uploading")
        self._publish(spec, report, scratch / "out", snapshots.objects)
        return Succeeded(report)

    def _publish(self, spec: CompressionSpec, report: Report, out: Path, objects: Objects) -> None:
        for format_name in (name for name in spec.formats if name not in report.outcome.refused):
            root = f"{self.held.job.id}-{format_name}"
            objects.put(
                Kind.CHECKPOINT,
                f"{root}.tar",
                partial(write_archive, out / format_name, root, on_read=self._check_asked),
                format=format_name,
            )

    def _check_wanted(self) -> None:
        """Raises: Cancelled, or NotOurs: nobody wants what the attempt does any more."""
        if self.held.lease.lost:
            raise NotOurs
        if self.held.lease.cancel_requested:
            raise Cancelled

    def _check_asked(self) -> None:
        """Raises: Ending: The attempt was asked to end."""
        self._check_wanted()
        if self.held.lease.pause_requested:
            raise Paused
        if self.stopping.is_set():
            raise GivenBack

    def _leave(self, ending: Ending, *, got_further: bool) -> None:
        standing = Standing(self.held.job, self.settings, got_further=got_further)
        after = ending.next(standing)
        if not self.held.persist(lambda session: self._write(session, after)):
            self._note_loss()

    def _note_loss(self) -> None:
        logger.warning("%s: attempt %d is no longer ours", self.held.job.id, self.held.job.attempt)
        observer.ended("lost")

    def _write(self, session: Session, after: Next) -> bool:
        held = (self.held.job.id, self.held.job.attempt)
        for statement in moves.leave_running(
            after.move, *held, data=after.data, values=after.values
        ):
            left = session.scalars(statement).one_or_none()
            if left is not None:
                if left.status == Status.SUCCEEDED:
                    session.execute(artifact_queries.publish(*held))
                    _note(session, left)
                error = after.values.get("error") or {}
                reason = after.data.get("reason") or error.get("code", "")
                observer.ended(left.status, reason)
                return True
        return False


def _note(session: Session, job: Job) -> None:
    """Keep what the job took, for estimates of others."""
    report = Report.model_validate(job.result)
    if measured := Measured.of(report, job.device_seconds):
        session.execute(estimate_queries.note(job, measured.model_dump(mode="json")))


def _refused(error: OSError) -> Failed:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Failed(
        "disk_full" if full else "storage_unavailable",
        f"The worker could not write: {error.strerror or type(error).__name__}.",
        remedy="Free space in the service's data folder." if full else "See the worker's log.",
        retryable=True,
    )
