"""Statements that read jobs, and those on their series of metrics; what moves a job is in moves.py.

Built here and run by others: the API runs them with an async session, the worker with a sync one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Executable, Select, Update, delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.jobs.moves import held_by, owned
from app.jobs.states import Status
from app.jobs.tables import Job, JobEvent, JobMetric


def set_progress(job_id: str, attempt: int, progress: Mapping[str, Any]) -> Update:
    return update(Job).where(held_by(job_id, attempt)).values(progress=dict(progress))


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


def one(project_id: str, job_id: str) -> Select[Job]:
    query = select(Job).where(owned(project_id, job_id))
    # A statement of this session may just have changed what it has loaded.
    return query.execution_options(populate_existing=True)


def page(project_id: str, *, before: str | None, status: Status | None, limit: int) -> Select[Job]:
    """Newest first; ids sort by age, so an id is the cursor."""
    query = select(Job).where(Job.project_id == project_id, Job.deleted_at.is_(None))
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


def forget(job_ids: Sequence[str]) -> Sequence[Executable]:
    """Remove all rows of jobs that store nothing."""
    return (
        delete(JobMetric).where(JobMetric.job_id.in_(job_ids)),
        delete(JobEvent).where(JobEvent.job_id.in_(job_ids)),
        delete(Job).where(Job.id.in_(job_ids)),
    )
