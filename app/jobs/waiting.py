"""Jobs that wait for another's success: which do, and what becomes of them when it fails.

What they wait for is the dense job that is their yardstick.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import aliased

from app.jobs.changes import ChangedJobs, move_jobs
from app.jobs.states import BASELINE_ENDED, Status
from app.jobs.tables import Job, spelt

BATCH = 100  # of a sweep

_Baseline = aliased(Job)
_ENDED = (Status.FAILED, Status.CANCELLED)


def waits(job: type[Job]) -> ColumnElement[bool]:
    """Whether a job's yardstick is not there yet."""
    baseline = aliased(Job)
    there = exists(
        select(baseline.id)
        .where(
            baseline.id == job.waits_for,
            baseline.status == spelt(Status.SUCCEEDED),
            baseline.deleted_at.is_(None),
        )
        .correlate(job)
    )
    return job.waits_for.is_not(None) & ~there


def startable_since() -> ColumnElement[Any]:
    """Since when a job that is queued might have been taken."""
    finished = select(_Baseline.finished_at).where(_Baseline.id == Job.waits_for)
    # Of a baseline that is none: greatest leaves it out.
    return func.greatest(Job.not_before, finished.correlate(Job).scalar_subquery())


def ended_baselines() -> Select[str]:
    """The ids of jobs that others are queued behind in vain, a hundred at the most."""
    ended = _Baseline.status.in_(_ENDED) | _Baseline.deleted_at.is_not(None)
    query = select(_Baseline.id).join(Job, Job.waits_for == _Baseline.id)
    return query.where(Job.status == Status.QUEUED, ended).distinct().limit(BATCH)


def fail_behind(baseline_id: str, error: Mapping[str, Any]) -> ChangedJobs:
    """Fail the jobs that are queued behind another, unless it was retried in the meantime."""
    ended = _Baseline.status.in_(_ENDED) | _Baseline.deleted_at.is_not(None)
    due = (
        select(Job.id)
        .where(
            Job.waits_for == baseline_id,
            Job.status == Status.QUEUED,
            exists(select(_Baseline.id).where(_Baseline.id == baseline_id, ended)),
        )
        .order_by(Job.id)
        .with_for_update(skip_locked=True)
    )
    values = {"error": dict(error), "finished_at": func.clock_timestamp()}
    return move_jobs(BASELINE_ENDED, Job.id.in_(due), values=values, data={"error": dict(error)})
