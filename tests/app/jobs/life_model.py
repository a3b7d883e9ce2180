"""What jobs should do, in plain Python: no database, no clock, no two things at once.

Times are kept as seconds from now, and pass only when they are told to.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.jobs.states import TERMINAL, Status

LEASE_SECONDS = 1000.0
BACKOFF_SECONDS = 500.0
QUEUE_SECONDS = 3000.0
MAX_LOST = 2

Held = tuple[str, int]  # a job's id and the attempt at it


@dataclass
class ModelJob:
    id: str
    project: str
    priority: int
    status: Status = Status.QUEUED
    attempt: int = 0
    run: int = 1
    lost: int = 0
    cancel: bool = False
    pause: bool = False
    deleted: bool = False
    waits: float = 0.0
    """Until it may be claimed; below zero for as long as it might have been."""
    lease: float = 0.0
    """What is left of it, while it runs."""
    ran: float = 0.0
    running_for: float = 0.0
    events: list[tuple[int, str]] = field(default_factory=lambda: [(0, "queued")])

    @property
    def ending(self) -> bool:
        return self.status == Status.RUNNING and self.cancel

    def note(self, event: str) -> None:
        self.events.append((self.attempt, event))


class Model:
    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.claims: list[Held] = []
        self.pairs: Counter[tuple[Status | None, Status]] = Counter()

    def where(self, *statuses: Status) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.status in statuses]

    def held(self) -> list[Held]:
        return [(job.id, job.attempt) for job in self.where(Status.RUNNING)]

    def stale(self) -> list[Held]:
        held = self.held()
        stale = [claim for claim in self.claims if claim not in held]
        # Those first that a fence without the attempt would let through.
        again = [claim for claim in stale if self.jobs[claim[0]].status == Status.RUNNING]
        return again or stale

    def let_pass(self, job: ModelJob, seconds: float) -> None:
        job.waits -= seconds
        job.lease -= seconds
        job.running_for += seconds

    def submit(self, job: ModelJob) -> None:
        self.jobs[job.id] = job
        self.pairs[None, job.status] += 1

    def visible(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if not job.deleted]

    def lost(self) -> list[ModelJob]:
        return [job for job in self.where(Status.RUNNING) if job.lease < 0]

    def late(self) -> list[ModelJob]:
        return [job for job in self.where(Status.QUEUED) if job.waits < -QUEUE_SECONDS]

    def claimable(self) -> list[ModelJob]:
        return [job for job in self.where(Status.QUEUED) if job.waits <= 0]

    def claim(self) -> ModelJob | None:
        busy = Counter(job.project for job in self.where(Status.RUNNING))
        order = sorted(self.claimable(), key=lambda job: (-job.priority, busy[job.project], job.id))
        for job in order[:1]:
            job.attempt += 1
            job.lease = LEASE_SECONDS
            job.running_for = 0
            self.claims.append((job.id, job.attempt))
            self._move(job, Status.RUNNING, "started")
            return job
        return None

    def leave(self, job: ModelJob, wanted: Status) -> None:
        """What the worker wants, unless the owner has asked for something else."""
        if job.cancel:
            self._end(job, Status.CANCELLED)
        elif wanted in (Status.SUCCEEDED, Status.FAILED):
            self._end(job, wanted)
        else:
            self._give_back(job)

    def sweep(self) -> Iterator[str]:
        """The ids of the jobs that a sweep moves."""
        lost, late = self.lost(), self.late()
        for job in lost:
            job.lost += 1
            if job.cancel:
                self._end(job, Status.CANCELLED)
            elif not job.pause and job.lost >= MAX_LOST:
                self._end(job, Status.FAILED)
            else:
                self._give_back(job, waits=BACKOFF_SECONDS)
        for job in late:
            self._end(job, Status.FAILED)
        yield from (job.id for job in (*lost, *late))

    def cancel(self, job: ModelJob) -> int:
        if job.status in (Status.QUEUED, Status.PAUSED):
            self._end(job, Status.CANCELLED)
        elif job.status == Status.RUNNING and not job.cancel:
            job.cancel = True
            job.note("cancel_requested")
        return 409 if job.status in (Status.SUCCEEDED, Status.FAILED) else 202

    def pause(self, job: ModelJob) -> int:
        if job.ending or job.status in TERMINAL:
            return 409
        if job.status == Status.QUEUED:
            self._move(job, Status.PAUSED, "paused")
        elif job.status == Status.RUNNING and not job.pause:
            job.pause = True
            job.note("pause_requested")
        return 202

    def resume(self, job: ModelJob) -> int:
        if job.ending or job.status in TERMINAL:
            return 409
        if job.status == Status.PAUSED:
            job.waits = 0
            self._move(job, Status.QUEUED, "resumed")
        elif job.pause:
            job.pause = False
            job.note("pause_withdrawn")
        return 202

    def retry(self, job: ModelJob) -> int:
        if job.status in (Status.FAILED, Status.CANCELLED):
            job.run += 1
            job.lost = 0
            job.ran = 0
            job.cancel = False
            job.waits = 0
            self._move(job, Status.QUEUED, "retried")
            return 202
        return 202 if job.run > 1 and job.status not in TERMINAL and not job.ending else 409

    def delete(self, job: ModelJob) -> int:
        job.deleted = True
        job.note("deleted")
        if job.status == Status.RUNNING:
            job.cancel = True
        elif job.status not in TERMINAL:
            self._end(job, Status.CANCELLED)
        return 204

    def _end(self, job: ModelJob, status: Status) -> None:
        job.pause = False
        self._move(job, status, status)

    def _give_back(self, job: ModelJob, *, waits: float = 0.0) -> None:
        status = Status.PAUSED if job.pause else Status.QUEUED
        job.pause = False
        job.waits = waits
        self._move(job, status, "requeued" if status is Status.QUEUED else "paused")

    def _move(self, job: ModelJob, status: Status, event: str) -> None:
        if job.status == Status.RUNNING:
            job.ran += job.running_for + min(job.lease, 0)
        self.pairs[job.status, status] += 1
        job.status = status
        job.note(event)
