"""Statements that read jobs, and those on their series of metrics; what moves a job is in moves.py.

Built here and run by others: the API runs them with an async session, the worker with a sync one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Select,
    Update,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import defer

from app.estimates.tables import Estimate
from app.ids import first_id
from app.jobs.filters import Filters
from app.jobs.moves import held_by, owned
from app.jobs.phases import BEGINS, PHASE
from app.jobs.tables import METHOD, MODEL, Job, JobEvent, JobMetric
from app.jobs.turns import queue_position
from app.sweeps.tables import SweepPick

# A job's events and when its progress was told: one of them changes with whatever else does.
Version = tuple[int, datetime | None]

MOST_CHANGES = 200  # the newest ones: a job may be paused and resumed all day
CLOCK_SECONDS = 24 * 3600  # no two hosts' clocks are further apart


def set_progress(job_id: str, attempt: int, progress: Mapping[str, Any]) -> Update:
    values = {"progress": dict(progress), "progress_at": func.clock_timestamp()}
    return update(Job).where(held_by(job_id, attempt)).values(values)


def write_metrics(job: Job, steps: Sequence[Mapping[str, Any]]) -> Executable:
    """Add steps to a job's series; run in the transaction of a ``set_progress`` that matched."""
    whose = {"project_id": job.project_id, "job_id": job.id, "attempt": job.attempt}
    rows = [{**whose, **step} for step in steps]
    insertion = upsert(JobMetric).values(rows)
    # A later attempt repeats the steps of the one that was lost: what it says counts.
    changed = {
        name: insertion.excluded[name]
        for name in rows[0]
        if name not in ("project_id", "job_id", "step")
    }
    return insertion.on_conflict_do_update(index_elements=["job_id", "step"], set_=changed)


def drop_metrics(job: Job, *, behind: int) -> Executable:
    """Remove what earlier attempts told of steps that this one trains anew, or never reaches.

    Run in the transaction of a statement that matched, as ``write_metrics``.
    """
    return delete(JobMetric).where(
        JobMetric.job_id == job.id, JobMetric.step > behind, JobMetric.attempt < job.attempt
    )


def one(project_id: str, job_id: str) -> Select[Job]:
    query = select(Job).where(owned(project_id, job_id))
    # A statement of this session may just have changed what it has loaded.
    return query.execution_options(populate_existing=True)


@cache
def shown() -> Select[Job, Any, int | None]:
    """One job with the changes that make its phases, and its place in the queue.

    With the parameters ``project_id`` and ``job_id``: to build it anew would cost more processor
    time than all the rest of a request.
    """
    mine = (Job.project_id == bindparam("project_id")) & (Job.id == bindparam("job_id"))
    job = select(Job).where(mine, Job.deleted_at.is_(None))
    query = job.add_columns(_changes(), queue_position(Job))
    return query.execution_options(populate_existing=True)


def _changes() -> ColumnElement[Any]:
    at = JobEvent.created_at.label("at")
    phase = JobEvent.data["phase"].as_string().label("phase")
    # Why an attempt ended: a job that is tried again would look like one that hangs.
    reason = JobEvent.data["reason"].as_string().label("reason")
    message = JobEvent.data["error", "message"].as_string().label("message")
    # Spelt out: a list of parameters is put into the statement anew each time.
    kinds: list[ColumnElement[str]] = [
        literal_column(f"'{kind}'") for kind in sorted({*BEGINS, PHASE})
    ]
    newest = (
        select(JobEvent.seq, JobEvent.type, phase, JobEvent.attempt, at, reason, message)
        .where(JobEvent.job_id == Job.id, JobEvent.type.in_(kinds))
        .order_by(JobEvent.seq.desc())
        .limit(MOST_CHANGES)
        .correlate(Job)
        .subquery()
    )
    names = ("type", "phase", "attempt", "at", "reason", "message")
    pairs = [part for name in names for part in (literal_column(f"'{name}'"), newest.c[name])]
    change = func.jsonb_build_object(*pairs)
    return select(func.jsonb_agg(change).aggregate_order_by(newest.c.seq)).scalar_subquery()


def versions(job_ids: Collection[str]) -> Select[str, int, datetime | None]:
    """How far jobs are, for who waits for them to change; those deleted are left out."""
    return select(Job.id, Job.event_seq, Job.progress_at).where(
        Job.id.in_(job_ids), Job.deleted_at.is_(None)
    )


def page(project_id: str, filters: Filters, *, before: str | None, limit: int) -> Select[Job]:
    """Newest first; ids sort by age, so an id is the cursor."""
    mine = select(Job.id).where(Job.project_id == project_id, Job.deleted_at.is_(None))
    # Spelt out: of a number that it is not told, PostgreSQL takes a tenth of all jobs for it, and
    # then finds reading them all the shortest way.
    few = literal_column(str(int(limit)), Integer)
    mine = mine.where(*_conditions(filters)).order_by(Job.id.desc()).limit(few)
    if before is not None:
        mine = mine.where(Job.id < before)
    # Each status has its own stretch of the index; the newest of all are among the newest of each.
    stretches = [mine.where(Job.status == status) for status in filters.status] or [mine]
    newest = union_all(*(select(stretch.subquery()) for stretch in stretches)).subquery()
    return (
        select(Job)
        .where(Job.id.in_(select(newest.c.id)))
        .order_by(Job.id.desc())
        .limit(few)
        # A report is long, and no list shows it.
        .options(defer(Job.result, raiseload=True))
    )


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.model is not None:
        yield literal_column(MODEL.text) == filters.model
    if filters.method is not None:
        yield literal_column(METHOD.text) == filters.method
    if filters.sweep is not None:
        yield Job.sweep_id == filters.sweep
    if filters.metadata:
        yield Job.metadata_.contains(dict(filters.metadata))
    # Ids are made by another clock than the database's: they only say where to look.
    if filters.created_after is not None:
        yield Job.created_at > filters.created_after
        yield Job.id >= first_id("job", filters.created_after.timestamp() - CLOCK_SECONDS)
    if filters.created_before is not None:
        yield Job.created_at < filters.created_before
        yield Job.id < first_id("job", filters.created_before.timestamp() + CLOCK_SECONDS)


def events(job_id: str, *, after: int, limit: int) -> Select[JobEvent]:
    return (
        select(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.seq > after)
        .order_by(JobEvent.seq)
        .limit(limit)
    )


def forget(job_ids: Sequence[str]) -> Sequence[Executable]:
    """Remove all rows of jobs that store nothing."""
    return (
        update(Job).where(Job.waits_for.in_(job_ids)).values(waits_for=None),
        delete(SweepPick).where(SweepPick.job_id.in_(job_ids)),
        delete(Estimate).where(Estimate.job_id.in_(job_ids)),
        delete(JobMetric).where(JobMetric.job_id.in_(job_ids)),
        delete(JobEvent).where(JobEvent.job_id.in_(job_ids)),
        delete(Job).where(Job.id.in_(job_ids)),
    )
