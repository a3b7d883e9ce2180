"""How far a job was when somebody looked: what decides whether a stream goes on."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, select

from app.jobs.states import TERMINAL, Status
from app.jobs.tables import Job, JobEvent

# Of the newest events, those that are read once for all streams of a job. Who needs older ones
# reads for itself.
TAIL = 16


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one moment: the row has them all, and each change of it is one statement."""

    status: Status
    attempt: int
    newest: int
    """The number of the last event."""

    @classmethod
    def of(cls, job: Job) -> "Standing":
        return cls(Status(job.status), job.attempt, job.event_seq)

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


def standings(job_ids: Collection[str]) -> Select[str, str, int, int]:
    """How the jobs stand; those that were deleted are left out."""
    return select(Job.id, Job.status, Job.attempt, Job.event_seq).where(
        Job.id.in_(job_ids), Job.deleted_at.is_(None)
    )


def tails(job_ids: Collection[str]) -> Select[JobEvent]:
    """The newest events of each job, in order."""
    return (
        select(JobEvent)
        .join(Job)
        .where(JobEvent.job_id.in_(job_ids), JobEvent.seq > Job.event_seq - TAIL)
        .order_by(JobEvent.job_id, JobEvent.seq)
    )
