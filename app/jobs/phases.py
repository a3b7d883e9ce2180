"""What a job did when: the phases of its present run, as its events tell them."""

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel

from app.jobs.states import CLAIM, MOVES, RETRY, SUBMIT, TERMINAL

PHASE = "phase"  # the event of a phase that is told by who works, and named in its data

# The phase that begins with a move's event; None where the run has ended.
BEGINS: dict[str, str | None] = {
    move.event: None if move.target in TERMINAL else str(move.target) for move in MOVES
} | {CLAIM.event: "preparing"}


class JobPhase(BaseModel):
    phase: str
    """queued, paused, preparing, training, exporting, verifying or uploading."""
    attempt: int
    """How often a worker had taken the job by then."""
    started_at: datetime
    finished_at: datetime | None
    """Null while it lasts."""


class Change(BaseModel):
    """An event that begins a phase or ends the run."""

    type: str
    phase: str | None
    attempt: int
    at: datetime

    @classmethod
    def of_submitted(cls, at: datetime) -> "Change":
        """The first of each job."""
        return cls(type=SUBMIT.event, phase=None, attempt=0, at=at)


def phases(changes: Iterable[Change]) -> list[JobPhase]:
    """The phases between changes that are in order; what earlier runs did is left out."""
    found: list[JobPhase] = []
    for change in changes:
        if change.type == RETRY.event:
            found.clear()
        phase = change.phase or BEGINS[change.type]
        if found and found[-1].finished_at is None:
            # A worker prepares before its trainer says so.
            if (found[-1].phase, found[-1].attempt) == (phase, change.attempt):
                continue
            found[-1].finished_at = change.at
        if phase:
            fields = {"phase": phase, "attempt": change.attempt, "started_at": change.at}
            found.append(JobPhase(**fields, finished_at=None))
    return found
