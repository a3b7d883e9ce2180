"""Statements that no route of the API needs: what the page alone shows."""

from sqlalchemy import Select, func, select

from app.jobs.states import RETRY
from app.jobs.tables import JobEvent

MOST = 1000


def validations(job_id: str) -> Select[JobEvent]:
    """The scores of the job's own model on its validation split, in order, of its latest run."""
    retried = (
        select(func.coalesce(func.max(JobEvent.seq), 0))
        .where(JobEvent.job_id == job_id, JobEvent.type == RETRY.event)
        .scalar_subquery()
    )
    return (
        select(JobEvent)
        .where(
            JobEvent.job_id == job_id,
            JobEvent.seq > retried,
            JobEvent.type == "evaluation",
            JobEvent.data["stage"].as_string() == "main",
            JobEvent.data["split"].as_string() == "validation",
        )
        .order_by(JobEvent.seq)
        .limit(MOST)
    )
