"""Writes a trainer's events to its job, in batches and under the attempt's fence.

Moves between states are not written here: they are the attempt's own.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.orm import Session, sessionmaker

from app.db import DATABASE_AWAY
from app.jobs import moves, queries
from app.jobs.tables import Job
from pst_core.events import (
    DataEvent,
    DownloadEvent,
    EvaluationEvent,
    PhaseEvent,
    ProgressEvent,
    ResumedEvent,
)
from worker.observing import observer

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
ROWS = 1000  # a statement takes 65,535 parameters
MAX_PENDING_METRICS = 10_000  # kept while the database is away; the oldest go first

Recordable = PhaseEvent | DownloadEvent | DataEvent | ProgressEvent | EvaluationEvent | ResumedEvent


class Recorder:
    """Keeps what the database does not take, and tries again.

    ``fenced`` turns true once the job is not ours.
    """

    def __init__(self, sessions: sessionmaker[Session], job: Job) -> None:
        self._sessions = sessions
        self._job = job
        self._fence = (job.id, job.attempt)
        self._events: list[Executable] = []
        self._progress: dict[str, Any] | None = None
        self._metrics: dict[int, dict[str, Any]] = {}
        # Behind which step this attempt trains: once known, and once that is written.
        self._begins_behind: int | None = None
        self._begin_written = False
        self._flushed_at = 0.0
        self.fenced = False

    def add(self, event: Recordable) -> None:
        match event:
            case PhaseEvent(phase=phase):
                observer.phase(phase)
                data = {"phase": phase}
                self._events.append(moves.record(*self._fence, "phase", data, phase=phase))
            case DataEvent():
                data = event.model_dump(mode="json", exclude={"type"})
                self._events.append(moves.record(*self._fence, "data", data, data=data))
            case EvaluationEvent() | DownloadEvent() | ResumedEvent():
                if isinstance(event, ResumedEvent):
                    self._begin(event.step)
                # "resumed" is what a job's owner does.
                kind = "continued" if isinstance(event, ResumedEvent) else event.type
                data = event.model_dump(mode="json", exclude={"type"})
                self._events.append(moves.record(*self._fence, kind, data))
            case ProgressEvent():
                observer.step(event.stage, event.step)
                self._begin(0)
                self._progress = event.model_dump(mode="json", exclude={"type"})
                series = {"step", "stage", "loss", "sparsity", "learning_rate"}
                self._metrics[event.step] = event.model_dump(mode="json", include=series)
                while len(self._metrics) > MAX_PENDING_METRICS:
                    del self._metrics[next(iter(self._metrics))]

    @property
    def pending_events(self) -> int:
        return len(self._events)

    def flush(self, *, force: bool = False) -> None:
        """Write what is pending, in one transaction, if some time has passed since the last."""
        due = force or time.monotonic() - self._flushed_at > FLUSH_SECONDS
        if not due or not (self._events or self._metrics):
            return
        self._flushed_at = time.monotonic()
        try:
            with self._sessions.begin() as session:
                self.fenced = not self._write(session)
        except DATABASE_AWAY as error:
            logger.warning("%s: events wait for the database: %s", self._job.id, error)
            return
        self._events, self._metrics, self._progress = [], {}, None
        self._begin_written = self._begins_behind is not None

    def drain(self, give_up: Callable[[], bool]) -> None:
        """Write what is pending, for as long as it takes or until told to give up."""
        self.flush(force=True)
        while (self._events or self._metrics) and not (self.fenced or give_up()):
            time.sleep(FLUSH_SECONDS)
            self.flush(force=True)

    def _begin(self, step: int) -> None:
        """Note that training begins behind a step: what is told first says where."""
        if self._begins_behind is None:
            self._begins_behind = step

    def _write(self, session: Session) -> bool:
        for statement in self._events:
            if session.scalars(statement).one_or_none() is None:
                return False
        if self._progress is not None:
            progress = queries.set_progress(*self._fence, self._progress)
            if session.scalar(progress.returning(Job.id)) is None:
                return False
        if self._begins_behind is not None and not self._begin_written:
            session.execute(queries.drop_metrics(self._job, behind=self._begins_behind))
        rows = list(self._metrics.values())
        for start in range(0, len(rows), ROWS):
            session.execute(queries.write_metrics(self._job, rows[start : start + ROWS]))
        return True
