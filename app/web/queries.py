"""Statements that no route of the API needs: what the page alone shows."""

from sqlalchemy import Select, select

from app.jobs.tables import JobEvent

MOST = 1000


def validations(job_id: str) -> Select[JobEvent]:
    """The scores of the job's own model on its validation split, in order."""
    return (
        select(JobEvent)
        .where(
            JobEvent.job_id == job_id,
            JobEvent.type == "evaluation",
            JobEvent.data["stage"].as_string() == "main",
            JobEvent.data["split"].as_string() == "validation",
        )
        .order_by(JobEvent.seq)
        .limit(MOST)
    )
