"""One child process from start to end: what it says is recorded, and it is told when to stop."""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pst_core.events import (
    EVENT,
    AnsweredEvent,
    Event,
    FailureEvent,
    FetchedEvent,
    ResultEvent,
    SnapshotEvent,
    SnapshotRejectedEvent,
)
from pst_core.report import Report
from worker.deadlines import Deadlines
from worker.devices import Device
from worker.endings import Ending, Failed, Lost, NotOurs
from worker.held import HeldJob
from worker.joblog import JobLog, LogParts
from worker.memory import oom_kills
from worker.process import ChildProcess
from worker.recorder import Recorder
from worker.snapshots import SnapshotStore

logger = logging.getLogger(__name__)

MAX_PENDING_EVENTS = 1000
STOPPED = (75, -signal.SIGTERM)  # EX_TEMPFAIL: stopped on request


@dataclass(slots=True)
class Told:
    """What a child that ended well has told beside what is recorded."""

    report: Report | None = None
    fetched: list[FetchedEvent] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Conversation:
    """What is the same for an attempt's children.

    Args:
        check_asked: Raises how the attempt ends if that was asked for.
        grace_seconds: How long a child that was asked to stop may take.
        hide: Takes our secrets out of what a child tells: one that fetches knows the hub's token,
            and a hub may say it back.
    """

    held: HeldJob
    device: Device
    deadlines: Deadlines
    log: JobLog
    parts: LogParts
    snapshots: SnapshotStore
    check_asked: Callable[[], None]
    grace_seconds: float
    hide: Callable[[bytes], bytes]

    def run(
        self, task: Mapping[str, Any], scratch: Path, *, hub: Mapping[str, str] | None = None
    ) -> Told:
        """Run a child until it ends well.

        Args:
            task: What it is to do.
            scratch: Where.
            hub: What names a hub to the fetch child; None: it is the trainer.

        Raises:
            Ending: It did not end well, or the attempt was to end before.
            NotOurs: The job is somebody else's by now.
        """
        job = self.held.job
        recorder = Recorder(self.held.sessions, job)
        told = Told()
        kills_before = oom_kills()
        with (
            ChildProcess(task, scratch=scratch, device=self.device, log=self.log, hub=hub) as child,
            self.held.lease.telling(child.lifeline.prolong),
        ):
            try:
                for line in child.lines():
                    self._check(recorder)
                    event = None if line is None else _parse(self.hide(line))
                    if isinstance(event, ResultEvent):
                        told.report = event.report
                    elif isinstance(event, FetchedEvent):
                        # Whatever a trainer says of it, what it trains is what was fetched.
                        told.fetched += [event] if hub is not None else []
                    elif event is not None:
                        self._take(recorder, event)
                # Its pipe has ended; the process should follow at once.
                self._judge(child.wait(self.grace_seconds), kills_before)
            except Ending as ending:
                # A job that is not to go on is not worth a grace time: leaving the block kills.
                if ending.saves:
                    self._let_save(child, recorder)
                recorder.drain(self._lost)
                raise
        recorder.drain(self._lost)
        return told

    def _lost(self) -> bool:
        return self.held.lease.lost

    def _take(self, recorder: Recorder, event: Event) -> None:
        self.deadlines.note(event)
        if isinstance(event, FailureEvent):
            raise Failed(**event.model_dump(exclude={"type"}))
        if isinstance(event, ResultEvent | FetchedEvent | AnsweredEvent):
            return
        if isinstance(event, SnapshotEvent):
            self.snapshots.store(event)
        elif isinstance(event, SnapshotRejectedEvent):
            self.snapshots.reject(event)
        else:
            recorder.add(event)
        if recorder.pending_events > MAX_PENDING_EVENTS:
            raise Failed("protocol", "The trainer reports more than can be written.")

    def _let_save(self, child: ChildProcess, recorder: Recorder) -> None:
        """Ask it to stop, and store the snapshot that it makes before it does."""
        child.ask_to_stop()
        deadline = time.monotonic() + self.grace_seconds
        for line in child.lines():
            if time.monotonic() > deadline or self._lost():
                return
            if line is not None:
                try:
                    self._take(recorder, _parse(self.hide(line)))
                except Failed as failed:
                    # It is stopped all the same, and the next attempt will meet this again.
                    logger.warning("%s: while it was stopped: %s", self.held.job.id, failed.error)
                    return
        child.wait(max(0.0, deadline - time.monotonic()))

    def _check(self, recorder: Recorder) -> None:
        """Look for a reason to stop; called several times a second."""
        recorder.flush()
        self.parts.store_if_due()
        if recorder.fenced:
            raise NotOurs
        self.check_asked()
        self.deadlines.check()

    def _judge(self, status: int, kills_before: int) -> None:
        """What a child's exit status means for the attempt; nothing if it is 0."""
        if status == 0:
            return
        self.check_asked()
        if status in STOPPED:
            raise Lost
        logger.error("%s: the trainer's output ends with:\n%s", self.held.job.id, self.log.recent())
        if status == -signal.SIGKILL and oom_kills() > kills_before:
            raise Failed(
                "out_of_memory",
                "The trainer was killed for want of memory.",
                field="hyperparameters.batch_size",
                remedy="Lower batch_size or max_length.",
                retryable=True,
            )
        how = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
        raise Failed(
            "trainer_crashed",
            f"The trainer {how}.",
            remedy="See GET /jobs/{id}/logs. Signal 9 often means too little memory: lower "
            "batch_size then.",
            retryable=True,
        )


def _parse(line: bytes) -> Event:
    """Raises: Failed: The line is no event that could be stored."""
    try:
        event = EVENT.validate_json(line)
    except ValidationError as error:
        raise Failed("protocol", "The trainer wrote a line that is no event.") from error
    if b"\\u0000" in line:  # PostgreSQL stores no NUL
        raise Failed("protocol", "The trainer wrote a NUL.")
    return event
