"""How long an attempt may take, in all and without getting any further."""

import time
from dataclasses import dataclass

from app.jobs.tables import Job
from app.settings import Settings
from pst_core.events import Event, ProgressEvent
from pst_core.spec import Limits
from worker.endings import Failed


@dataclass(slots=True)
class Deadlines:
    """By this process's own clock.

    Args:
        limits: The spec's.
        wall_at: When the run has had all of its time; infinity without a limit.
        patience: Seconds without progress.
        moved_at: When there last was some.
        step: The furthest so far.
    """

    limits: Limits
    wall_at: float
    patience: float
    moved_at: float
    step: int = -1

    @classmethod
    def of(cls, limits: Limits, settings: Settings, job: Job, started: float) -> "Deadlines":
        """Those of an attempt that was claimed at ``started``, by ``time.monotonic()``."""
        wall = limits.wall_seconds
        return cls(
            limits,
            # What earlier attempts of the run took is gone.
            float("inf") if wall is None else started + wall - job.ran_seconds,
            limits.no_progress_seconds or settings.no_progress_seconds,
            time.monotonic(),
        )

    def note(self, event: Event) -> None:
        """Any event is progress, but for the report of a step that was reported before."""
        if isinstance(event, ProgressEvent):
            if event.step <= self.step:
                return
            self.step = event.step
        self.moved_at = time.monotonic()

    def check(self) -> None:
        """Raises: Failed: A time is over."""
        now = time.monotonic()
        if now > self.wall_at:
            raise Failed(
                "timeout",
                f"The job ran longer than {self.limits.wall_seconds} s.",
                field="limits.wall_seconds",
                remedy="Raise the limit, or train fewer epochs.",
            )
        if now > self.moved_at + self.patience:
            raise Failed(
                "no_progress",
                f"The trainer made no progress for {self.patience:g} s.",
                field="limits.no_progress_seconds",
                remedy="See GET /jobs/{id}/logs; raise the limit if it was merely slow.",
                retryable=True,
            )
