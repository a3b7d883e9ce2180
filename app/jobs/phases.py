"""What a job did when: the phases of its present run, as its events tell them."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel

from app.jobs.states import CLAIM, MOVES, REQUEUE, RETRY, SUBMIT, TERMINAL

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


class JobRequeue(BaseModel):
    reason: str
    """The code of the error that ended the attempt, or `worker_stopped`, `trainer_stopped`,
    `lease_expired`."""
    message: str | None
    """Of the error, where there was one."""
    next_try_at: datetime
    """No worker takes the job before."""


class Change(BaseModel):
    """An event that begins a phase or ends the run."""

    type: str
    phase: str | None
    attempt: int
    at: datetime
    reason: str | None = None
    message: str | None = None

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


def requeue(changes: Sequence[Change], next_try_at: datetime) -> JobRequeue | None:
    """Why the job is in the queue again, if that is the last that became of it."""
    if not changes or changes[-1].type != REQUEUE.event:
        return None
    last = changes[-1]
    return JobRequeue(reason=last.reason or "", message=last.message, next_try_at=next_try_at)
