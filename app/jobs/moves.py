"""Statements that change a job: one each, its event in it, under the fence where a worker sends it.

Built here and run by others: the API runs them with an async session, the worker with a sync one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    exists,
    func,
    null,
    select,
    true,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute

from app.jobs.changes import NO_DATA, ChangedJobs, move_jobs, with_event
from app.jobs.states import (
    CANCEL_REQUESTED,
    CANCEL_RUNNING,
    CANCEL_WAITING,
    CLAIM,
    DELETED,
    FAIL,
    PAUSE_QUEUED,
    PAUSE_REQUESTED,
    PAUSE_RUNNING,
    PAUSE_WITHDRAWN,
    REQUEUE,
    RESUME,
    RETRY,
    SUCCEED,
    TERMINAL,
    TIME_OUT_QUEUED,
    Move,
    Status,
)
from app.jobs.tables import Job
from app.jobs.turns import RUNNING_JOBS, UNLIMITED, startable
from app.jobs.waiting import startable_since, waits

Device = Literal["cpu", "gpu"]

Column = InstrumentedAttribute[str] | InstrumentedAttribute[str | None]

# What becomes of a job whose attempt ends without an end: its owner's wishes say which.
GIVE_BACK = (REQUEUE, PAUSE_RUNNING, CANCEL_RUNNING)
BATCH = 100  # of a sweep: few enough that their locks are short; the next one takes the rest


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a job waits after its nth attempt in a row that got it no further."""

    first_seconds: float
    most_seconds: float = 600.0

    def until(self, attempts: ColumnElement[int] | int) -> ColumnElement[Any]:
        doublings = func.least(attempts - 1, 30)
        seconds = func.least(self.first_seconds * func.power(2, doublings), self.most_seconds)
        return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def lease_end(seconds: float) -> ColumnElement[Any]:
    """By the database's clock alone; clock_timestamp, since now() is the transaction's start."""
    return func.clock_timestamp() + timedelta(seconds=seconds)


def held_by(
    job_id: str | InstrumentedAttribute[str], attempt: int | InstrumentedAttribute[int]
) -> ColumnElement[bool]:
    """The fence: true of the job while this attempt of it runs, and never again."""
    return (Job.id == job_id) & (Job.attempt == attempt) & (Job.status == Status.RUNNING)


def owned(project_id: str, name: str, by: Column = Job.id) -> ColumnElement[bool]:
    """A job by its id, or by another column all that have this there."""
    return (Job.project_id == project_id) & (by == name) & Job.deleted_at.is_(None)


def claim(
    *,
    worker: str,
    lease_seconds: float,
    device: Device,
    memory_bytes: int | None = None,
    max_running: int = UNLIMITED,
) -> ChangedJobs:
    """Take the next job: by priority, then the project with the fewest running, then age.

    Claims at once may together take more of a project than it may run: `turns.check` tells.

    Args:
        worker: Who asks.
        lease_seconds: How long it is theirs without a renewal.
        device: What they would run it on.
        memory_bytes: How much memory that has; None where it is not known.
        max_running: Of a project that has no quota of its own.
    """
    fits: ColumnElement[bool] = Job.memory_bytes.is_(None)
    if memory_bytes is not None:
        fits |= Job.memory_bytes <= memory_bytes
    candidate = (
        startable(max_running)
        .where(claimable(device), fits)
        .order_by(Job.priority.desc(), RUNNING_JOBS, Job.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
    )
    return move_jobs(
        CLAIM,
        Job.id == candidate.scalar_subquery(),
        values={
            # Whoever still holds an older attempt can write nothing from here on.
            "attempt": Job.attempt + 1,
            "worker": worker,
            "phase": "preparing",
            "lease_until": lease_end(lease_seconds),
            "claimed_at": func.clock_timestamp(),
            # Of the run's first attempt, whatever became of it.
            "started_at": func.coalesce(Job.started_at, func.clock_timestamp()),
        },
        data={"worker": worker},
    )


def claimable(*devices: Device) -> ColumnElement[bool]:
    """Of the jobs that wait and may start: those for one of these kinds of devices."""
    due = (Job.status == Status.QUEUED) & (Job.not_before <= func.clock_timestamp())
    return due & Job.device.in_(("any", *devices))


def any_claimable(*devices: Device, max_running: int = UNLIMITED) -> Select[bool]:
    return select(exists(startable(max_running).where(claimable(*devices))))


def renew(job_id: str, attempt: int, *, lease_seconds: float) -> Executable:
    """Prolong a lease; brings back what was asked of the job meanwhile."""
    return (
        update(Job)
        .where(held_by(job_id, attempt))
        .values(lease_until=lease_end(lease_seconds))
        .returning(Job.cancel_requested, Job.pause_requested)
    )


def leave_running(
    move: Move,
    job_id: str,
    attempt: int,
    *,
    data: Mapping[str, Any] = NO_DATA,
    values: Mapping[str, Any] = NO_DATA,
) -> Sequence[ChangedJobs]:
    """A worker's own move out of ``running``, as statements for one transaction.

    One of them matches where the job is the worker's, none where it no longer is. A cancel
    that was accepted comes before everything else, and a job that was to be paused is not given
    back to the queue.

    Args:
        move: What the worker wants of the job.
        job_id: Whose move it is.
        attempt: The fencing token it was claimed under.
        data: Of the event.
        values: Columns that the move itself sets.
    """
    held = held_by(job_id, attempt)
    # Locks the row and, by skipping it, gives nothing back: what is asked of the job must not
    # change between the statements, or none of them might match.
    lock = select(Job).where(held).offset(1).with_for_update()
    moves = (move, CANCEL_RUNNING) if move in (SUCCEED, FAIL) else GIVE_BACK
    return [
        lock,
        *(
            move_jobs(
                each,
                held & _as_asked(each),
                values={**_released(each), **(values if each is move else NO_DATA)},
                data=data if each is move else NO_DATA,
            )
            for each in moves
        ),
    ]


def expire(
    move: Move, *, max_lost: int, backoff: Backoff, values: Mapping[str, Any] = NO_DATA
) -> ChangedJobs:
    """Take jobs whose lease has ended from their workers, a hundred at the most.

    Args:
        move: What becomes of them: REQUEUE takes those that may be tried again, FAIL those that
            have lost ``max_lost`` attempts, CANCEL_RUNNING and PAUSE_RUNNING those for which that
            was asked anyway.
        max_lost: How many attempts in a row may be lost to infrastructure.
        backoff: How long those wait that are tried again.
        values: Columns to set besides.
    """
    lost = Job.lost_attempts + 1
    counted = {FAIL: ~Job.pause_requested & (lost >= max_lost), REQUEUE: lost < max_lost}
    due = (
        select(Job.id)
        .where(
            Job.status == Status.RUNNING,
            Job.lease_until < func.clock_timestamp(),
            _as_asked(move),
            counted.get(move, true()),
        )
        .order_by(Job.lease_until)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    waits = {"not_before": backoff.until(lost)} if move is REQUEUE else NO_DATA
    error = {"error": values["error"]} if "error" in values else NO_DATA
    return move_jobs(
        move,
        Job.id.in_(due),
        values={**_released(move), "lost_attempts": lost, **waits, **values},
        data={"reason": "lease_expired", **error},
    )


def time_out_queued(error: Mapping[str, Any]) -> ChangedJobs:
    """Fail jobs that have waited longer for a worker than their spec allows.

    The time for which we ourselves make them wait, or another job does, does not count.
    """
    limit = Job.spec["limits"]["queue_seconds"].as_float()
    waited = func.extract("epoch", func.clock_timestamp() - startable_since())
    due = (
        select(Job.id)
        .where(Job.status == Status.QUEUED, ~waits(Job), waited > limit)
        .order_by(Job.id)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    values = {"error": dict(error), "finished_at": func.clock_timestamp()}
    return move_jobs(TIME_OUT_QUEUED, Job.id.in_(due), values=values, data={"error": dict(error)})


def cancel_waiting(project_id: str, name: str, by: Column = Job.id) -> ChangedJobs:
    values = {"finished_at": func.clock_timestamp()}
    return move_jobs(CANCEL_WAITING, owned(project_id, name, by), values=values)


def cancel_deleted(name: str, by: Column = Job.id) -> ChangedJobs:
    """What `cancel_waiting` is to others, for a job that its owner no longer sees."""
    return move_jobs(
        CANCEL_WAITING,
        (by == name) & Job.deleted_at.is_not(None),
        values={"finished_at": func.clock_timestamp()},
    )


def request_cancel(project_id: str, name: str, by: Column = Job.id) -> ChangedJobs:
    """Ask the worker that runs a job to stop; asking again changes nothing."""
    which = owned(project_id, name, by) & (Job.status == Status.RUNNING) & ~Job.cancel_requested
    return with_event(
        update(Job).where(which).values(cancel_requested=True), CANCEL_REQUESTED, NO_DATA
    )


def pause_queued(project_id: str, name: str, by: Column = Job.id) -> ChangedJobs:
    return move_jobs(PAUSE_QUEUED, owned(project_id, name, by))


def request_pause(project_id: str, name: str, by: Column = Job.id) -> ChangedJobs:
    """Ask the worker that runs a job to save it and stop; asking again changes nothing."""
    which = owned(project_id, name, by) & (Job.status == Status.RUNNING)
    which &= ~Job.cancel_requested & ~Job.pause_requested
    return with_event(
        update(Job).where(which).values(pause_requested=True), PAUSE_REQUESTED, NO_DATA
    )


def resume(project_id: str, name: str, by: Column = Job.id) -> ChangedJobs:
    return move_jobs(RESUME, owned(project_id, name, by), values=_claimable_now())


def withdraw_pause(project_id: str, name: str, by: Column = Job.id) -> ChangedJobs:
    """Let a job run on that was to be paused and is not yet."""
    which = owned(project_id, name, by) & (Job.status == Status.RUNNING)
    which &= ~Job.cancel_requested & Job.pause_requested
    return with_event(
        update(Job).where(which).values(pause_requested=False), PAUSE_WITHDRAWN, NO_DATA
    )


def retry(project_id: str, job_id: str) -> ChangedJobs:
    """Start another run of a job that has failed or was cancelled; attempts count on."""
    return move_jobs(
        RETRY,
        owned(project_id, job_id),
        values={
            **_claimable_now(),
            "run": Job.run + 1,
            "lost_attempts": 0,
            "failed_attempts": 0,
            "ran_seconds": 0.0,
            "cancel_requested": False,
            "progress": null(),
            "progress_at": null(),
            "error": null(),
            "started_at": null(),
            "finished_at": null(),
        },
    )


def delete(project_id: str, name: str, by: Column = Job.id) -> ChangedJobs:
    """Hide a job for ever; whoever runs it stops. A ``cancel_deleted`` belongs behind it."""
    running = Job.status == Status.RUNNING
    changed = (
        update(Job)
        .where(owned(project_id, name, by))
        .values(deleted_at=func.clock_timestamp(), cancel_requested=Job.cancel_requested | running)
    )
    return with_event(changed, DELETED, NO_DATA)


def delete_old(seconds: float) -> ChangedJobs:
    """Delete jobs that ended so long ago, as their owners would; a hundred at the most."""
    due = (
        select(Job.id)
        .where(Job.finished_at < lease_end(-seconds), Job.deleted_at.is_(None))
        .order_by(Job.finished_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    # Retried in the meantime, it has not ended any more.
    changed = update(Job).where(Job.id.in_(due), Job.finished_at.is_not(None))
    return with_event(
        changed.values(deleted_at=func.clock_timestamp()), DELETED, {"reason": "retention"}
    )


def record(
    job_id: str, attempt: int, kind: str, data: Mapping[str, Any], /, **values: object
) -> ChangedJobs:
    """Add an event to a job this attempt runs, and set columns (such as its phase) with it."""
    changed = update(Job).where(held_by(job_id, attempt)).values(**values)
    return with_event(changed, kind, data)


def _as_asked(move: Move) -> ColumnElement[bool]:
    """Which move out of ``running`` its owner lets a job make: for each job exactly one of three.

    A job that has ended by itself, one way or the other, need not be paused any more.
    """
    cancelled, paused = Job.cancel_requested.is_(True), Job.pause_requested.is_(True)
    conditions: dict[Move, ColumnElement[bool]] = {
        CANCEL_RUNNING: cancelled,
        PAUSE_RUNNING: ~cancelled & paused,
        REQUEUE: ~cancelled & ~paused,
    }
    return conditions.get(move, ~cancelled)


def _claimable_now() -> dict[str, Any]:
    return {"not_before": func.clock_timestamp()}


def _released(move: Move) -> dict[str, Any]:
    # Nobody works on it past its lease, however late a sweep comes.
    until = func.least(func.clock_timestamp(), Job.lease_until)
    ran = func.extract("epoch", until - Job.claimed_at)
    return {
        "lease_until": null(),
        "claimed_at": null(),
        "worker": null(),
        "phase": null(),
        "pause_requested": False,
        "ran_seconds": Job.ran_seconds + ran,
        "device_seconds": Job.device_seconds + ran,
        **({"finished_at": func.clock_timestamp()} if move.target in TERMINAL else {}),
        **(_claimable_now() if move.target is Status.QUEUED else {}),
    }
