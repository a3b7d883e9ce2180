"""Statements on artifacts, run by the API and the worker alike."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Executable, Select, exists, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.artifacts.tables import Artifact
from app.jobs.queries import held_by
from app.jobs.tables import Job


def announce(artifact: Mapping[str, Any]) -> Executable:
    """Insert the row of an object about to be written, if the attempt still runs its job."""
    columns = Artifact.__table__.columns
    held = exists(select(Job.id).where(held_by(artifact["job_id"], artifact["attempt"])))
    values = [literal(value, columns[name].type) for name, value in artifact.items()]
    insertion = upsert(Artifact).from_select(list(artifact), select(*values).where(held))
    # Said again when the answer to the first time got lost: the same row.
    repeated = insertion.on_conflict_do_update(
        index_elements=["id"], set_={"storage_key": insertion.excluded.storage_key}
    )
    return repeated.returning(Artifact.id)


def describe(artifact_id: str, **values: object) -> Executable:
    """Set size, hash and files of an object that is wholly written."""
    return (
        update(Artifact).where(Artifact.id == artifact_id).values(**values).returning(Artifact.id)
    )


def publish(job_id: str, attempt: int) -> Executable:
    """Show an attempt's artifacts; belongs into the transaction in which the job succeeds."""
    return (
        update(Artifact)
        .where(Artifact.job_id == job_id, Artifact.attempt == attempt)
        .values(state="ready")
    )


def published(job_id: str) -> Select[Artifact]:
    return (
        select(Artifact)
        .where(Artifact.job_id == job_id, Artifact.state == "ready")
        .order_by(Artifact.format)
    )
