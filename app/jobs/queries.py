"""Statements on jobs, their events and metrics: built here, and run by others.

The API runs them with an async session, the worker with a sync one.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Text,
    Update,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.jobs.states import (
    CANCEL_QUEUED,
    CANCEL_REQUESTED,
    CANCEL_RUNNING,
    CLAIM,
    FAIL,
    REQUEUE,
    SUBMIT,
    Move,
    Status,
)
from app.jobs.tables import Job, JobEvent, JobMetric

# A statement that gives back the jobs it changed; no row means: not ours, or no longer so.
ChangedJobs = TypedReturnsRows[Job]

NO_DATA: Mapping[str, Any] = {}


def lease_end(seconds: float) -> ColumnElement[Any]:
    """By the database's clock alone; clock_timestamp, since now() is the transaction's start."""
    return func.clock_timestamp() + timedelta(seconds=seconds)


def held_by(job_id: str, attempt: int) -> ColumnElement[bool]:
    """The fence: true of the job while this attempt of it runs, and never again."""
    return (Job.id == job_id) & (Job.attempt == attempt) & (Job.status == Status.RUNNING)


def submit(job: Mapping[str, Any]) -> Sequence[Executable]:
    """Insert a job and its first event."""
    event = {"job_id": job["id"], "seq": 1, "attempt": 0, "type": SUBMIT.event, "data": {}}
    return (
        insert(Job).values(status=SUBMIT.target, event_seq=1, **job),
        insert(JobEvent).values(**event),
    )


def claim(*, worker: str, lease_seconds: float) -> ChangedJobs:
    """Take the next job: by priority, then the project with the fewest running, then age."""
    running = aliased(Job)
    busy = (
        select(func.count())
        .where(running.project_id == Job.project_id, running.status == Status.RUNNING)
        .scalar_subquery()
    )
    candidate = (
        claimable(select(Job.id))
        .order_by(Job.priority.desc(), busy, Job.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
    )
    return _move(
        CLAIM,
        Job.id == candidate.scalar_subquery(),
        values={
            # Whoever still holds an older attempt can write nothing from here on.
            "attempt": Job.attempt + 1,
            "worker": worker,
            "lease_until": lease_end(lease_seconds),
            # Of the first attempt, whatever became of it.
            "started_at": func.coalesce(Job.started_at, func.clock_timestamp()),
        },
        data={"worker": worker},
    )


def claimable(query: Select[Any]) -> Select[Any]:
    return query.where(Job.status == Status.QUEUED, Job.not_before <= func.clock_timestamp())


def any_claimable() -> Select[bool]:
    return select(exists(claimable(select(Job.id))))


def renew(job_id: str, attempt: int, *, lease_seconds: float) -> Executable:
    """Prolong a lease; brings back whether a cancel was asked for."""
    return (
        update(Job)
        .where(held_by(job_id, attempt))
        .values(lease_until=lease_end(lease_seconds))
        .returning(Job.cancel_requested)
    )


def leave_running(
    move: Move,
    job_id: str,
    attempt: int,
    *,
    data: Mapping[str, Any] = NO_DATA,
    values: Mapping[str, Any] = NO_DATA,
) -> ChangedJobs:
    """A worker's own move out of ``running``. No job that is to be cancelled is requeued."""
    which = held_by(job_id, attempt)
    if move is REQUEUE:
        which &= ~Job.cancel_requested
    return _move(move, which, values={**_released(move), **values}, data=data)


def cancel_queued(project_id: str, job_id: str) -> ChangedJobs:
    return _move(
        CANCEL_QUEUED, _owned(project_id, job_id), values={"finished_at": func.clock_timestamp()}
    )


def request_cancel(project_id: str, job_id: str) -> ChangedJobs:
    """Ask the worker that runs a job to stop; asking again changes nothing."""
    changed = (
        update(Job)
        .where(
            _owned(project_id, job_id),
            Job.status == Status.RUNNING,
            Job.cancel_requested.is_(False),
        )
        .values(cancel_requested=True)
    )
    return _with_event(changed, CANCEL_REQUESTED, NO_DATA)


def expire(move: Move, *, max_lost: int, values: Mapping[str, Any] = NO_DATA) -> ChangedJobs:
    """Take jobs whose lease has ended from their workers, a hundred at the most.

    Args:
        move: What becomes of them: REQUEUE takes those that may be tried again, FAIL those that
            have lost ``max_lost`` attempts, CANCEL_RUNNING those that were to be cancelled anyway.
        max_lost: How many attempts may be lost to infrastructure.
        values: Columns to set besides.
    """
    lost = Job.lost_attempts + 1
    which = {
        REQUEUE: ~Job.cancel_requested & (lost < max_lost),
        FAIL: ~Job.cancel_requested & (lost >= max_lost),
        CANCEL_RUNNING: Job.cancel_requested,
    }[move]
    due = (
        select(Job.id)
        .where(Job.status == Status.RUNNING, Job.lease_until < func.clock_timestamp(), which)
        .order_by(Job.lease_until)
        # Few enough that their locks are short; the next sweep takes the rest.
        .limit(100)
        .with_for_update(skip_locked=True)
    )
    return _move(
        move,
        Job.id.in_(due),
        values={**_released(move), "lost_attempts": lost, **values},
        data={"reason": "lease_expired"},
    )


def record(
    job_id: str, attempt: int, kind: str, data: Mapping[str, Any], **values: object
) -> ChangedJobs:
    """Add an event to a job this attempt runs, and set columns (such as its phase) with it."""
    changed = update(Job).where(held_by(job_id, attempt)).values(**values)
    return _with_event(changed, kind, data)


def set_progress(job_id: str, attempt: int, progress: Mapping[str, Any]) -> Update:
    return update(Job).where(held_by(job_id, attempt)).values(progress=dict(progress))


def write_metrics(job_id: str, attempt: int, steps: Sequence[Mapping[str, Any]]) -> Executable:
    """Add steps to a job's series; run in the transaction of a ``set_progress`` that matched."""
    rows = [{"job_id": job_id, "attempt": attempt, **step} for step in steps]
    insertion = upsert(JobMetric).values(rows)
    # A later attempt repeats the steps of the one that was lost: what it says counts.
    changed = {name: insertion.excluded[name] for name in rows[0] if name not in ("job_id", "step")}
    return insertion.on_conflict_do_update(index_elements=["job_id", "step"], set_=changed)


def one(project_id: str, job_id: str) -> Select[Job]:
    query = select(Job).where(_owned(project_id, job_id))
    # A statement of this session may just have changed what it has loaded.
    return query.execution_options(populate_existing=True)


def page(project_id: str, *, before: str | None, status: Status | None, limit: int) -> Select[Job]:
    """Newest first; ids sort by age, so an id is the cursor."""
    query = select(Job).where(Job.project_id == project_id)
    if before is not None:
        query = query.where(Job.id < before)
    if status is not None:
        query = query.where(Job.status == status)
    return query.order_by(Job.id.desc()).limit(limit)


def events(job_id: str, *, after: int, limit: int) -> Select[JobEvent]:
    return (
        select(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.seq > after)
        .order_by(JobEvent.seq)
        .limit(limit)
    )


def metrics(job_id: str, *, after: int, limit: int) -> Select[JobMetric]:
    return (
        select(JobMetric)
        .where(JobMetric.job_id == job_id, JobMetric.step > after)
        .order_by(JobMetric.step)
        .limit(limit)
    )


def _owned(project_id: str, job_id: str) -> ColumnElement[bool]:
    return (Job.project_id == project_id) & (Job.id == job_id)


def _released(move: Move) -> dict[str, Any]:
    # A requeued job has not ended; all other moves out of running are ends.
    finished = null() if move.target is Status.QUEUED else func.clock_timestamp()
    return {"lease_until": null(), "worker": null(), "phase": null(), "finished_at": finished}


def _move(
    move: Move,
    which: ColumnElement[bool],
    *,
    values: Mapping[str, Any] = NO_DATA,
    data: Mapping[str, Any] = NO_DATA,
) -> ChangedJobs:
    changed = (
        update(Job).where(which, Job.status == move.source).values(status=move.target, **values)
    )
    return _with_event(changed, move.event, data)


def _with_event(changed: Update, kind: str, data: Mapping[str, Any]) -> ChangedJobs:
    """One statement: the change, and its event numbered under the row lock the change takes."""
    moved = (
        changed.values(event_seq=Job.event_seq + 1).returning(*Job.__table__.columns).cte("moved")
    )
    logged = (
        insert(JobEvent)
        .from_select(
            ["job_id", "seq", "attempt", "type", "data"],
            select(
                moved.c.id,
                moved.c.event_seq,
                moved.c.attempt,
                literal(kind, Text),
                literal(dict(data), JSONB),
            ),
        )
        .cte("logged")
    )
    # PostgreSQL runs the insertion although nothing reads from it.
    changed_jobs = (
        select(Job)
        .from_statement(select(moved).add_cte(logged))
        .execution_options(populate_existing=True)
    )
    return cast("ChangedJobs", changed_jobs)
