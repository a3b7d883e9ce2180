"""Statements on artifacts, run by the API and the worker alike."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Update,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from app.artifacts.tables import Artifact, Kind, State
from app.jobs.moves import held_by, owned
from app.jobs.states import TERMINAL, Status
from app.jobs.tables import Job

KEPT_SNAPSHOTS = 2  # of a job: the newest, and the one before in case that is damaged
BATCH = 1000  # of a sweep


def announce(artifact: Mapping[str, Any]) -> Executable:
    """Insert the row of an object about to be written, if the attempt still runs its job."""
    columns = Artifact.__table__.columns
    values = [literal(value, columns[name].type) for name, value in artifact.items()]
    held = held_by(artifact["job_id"], artifact["attempt"])
    row = select(Job.project_id, *values).where(held)
    insertion = upsert(Artifact).from_select(["project_id", *artifact], row)
    # Said again when the answer to the first time got lost: the same row.
    repeated = insertion.on_conflict_do_update(
        index_elements=["id"], set_={"storage_key": insertion.excluded.storage_key}
    )
    return repeated.returning(Artifact.id)


def describe(artifact_id: str, **values: object) -> Executable:
    """Set size, hash and files of an object that is wholly written, if its attempt still runs."""
    return (
        update(Artifact)
        # The state too: the row may be given up while this waits for it.
        .where(Artifact.id == artifact_id, Artifact.state != State.DELETING, _being_written())
        .values(**values)
        .returning(Artifact.id)
    )


def publish(job_id: str, attempt: int) -> Executable:
    """Show an attempt's checkpoints; belongs into the transaction in which the job succeeds."""
    return (
        update(Artifact)
        .where(
            Artifact.job_id == job_id,
            Artifact.attempt == attempt,
            Artifact.kind == Kind.CHECKPOINT,
            Artifact.state == State.UPLOADING,
        )
        .values(state=State.READY)
    )


def published(job_id: str) -> Select[Artifact]:
    return _ready(job_id, Kind.CHECKPOINT).order_by(Artifact.format)


def base_checkpoint(project_id: str, job_id: str) -> Select[Artifact]:
    """What another job of the project starts from: `dense`, or what is dense once it is loaded."""
    finished = exists(
        select(Job.id).where(owned(project_id, job_id), Job.status == Status.SUCCEEDED)
    )
    return published(job_id).where(Artifact.format.in_(("dense", "packed")), finished)


def snapshots(job_id: str) -> Select[Artifact]:
    """Those to go on from, the newest first: a later attempt's before a further one's."""
    order = (Artifact.attempt.desc(), Artifact.step.desc())
    return _ready(job_id, Kind.SNAPSHOT).order_by(*order).limit(KEPT_SNAPSHOTS)


def logs(job_id: str) -> Select[Artifact]:
    """In the order they were printed."""
    return _ready(job_id, Kind.LOG).order_by(Artifact.attempt, Artifact.name)


def retire(which: ColumnElement[bool]) -> Update:
    """Give objects up: no reader sees them from here on, and a sweep removes them."""
    return (
        update(Artifact).where(which, Artifact.state != State.DELETING).values(state=State.DELETING)
    )


def outdated(job_id: str) -> ColumnElement[bool]:
    """All of a job's snapshots but those kept."""
    kept = snapshots(job_id).with_only_columns(Artifact.id)
    mine = (Artifact.job_id == job_id) & (Artifact.kind == Kind.SNAPSHOT)
    return mine & (Artifact.state == State.READY) & Artifact.id.not_in(kept)


def orphaned() -> ColumnElement[bool]:
    """What an attempt was writing that runs no more."""
    return (Artifact.state == State.UPLOADING) & ~_being_written()


def no_longer_needed(*, snapshot_seconds: float) -> ColumnElement[bool]:
    """All that deleted jobs have stored, and the snapshots of jobs that have ended.

    Args:
        snapshot_seconds: How long those of a job are kept that may be tried again.
    """
    age = func.extract("epoch", func.clock_timestamp() - Job.finished_at)
    ended = select(Job.id).where(Job.id == Artifact.job_id, Job.status.in_(sorted(TERMINAL)))
    spent = (Job.status == Status.SUCCEEDED) | (age > snapshot_seconds)
    return exists(ended.where(Job.deleted_at.is_not(None))) | (
        (Artifact.kind == Kind.SNAPSHOT) & exists(ended.where(spent))
    )


def to_remove() -> Select[Artifact]:
    return select(Artifact).where(Artifact.state == State.DELETING).limit(BATCH)


def forget(artifact_id: str) -> Executable:
    """Remove the row of an object whose bytes are gone."""
    return delete(Artifact).where(Artifact.id == artifact_id, Artifact.state == State.DELETING)


def known_keys(keys: Collection[str]) -> Select[str]:
    return select(Artifact.storage_key).where(Artifact.storage_key.in_(keys))


def emptied_jobs() -> Select[str]:
    """Deleted jobs that have ended and store nothing any more; locked, to be forgotten."""
    return (
        select(Job.id)
        .where(
            Job.deleted_at.is_not(None),
            Job.status.in_(sorted(TERMINAL)),
            ~exists(select(Artifact.id).where(Artifact.job_id == Job.id)),
        )
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )


def _being_written() -> ColumnElement[bool]:
    return exists(select(Job.id).where(held_by(Artifact.job_id, Artifact.attempt)))


def _ready(job_id: str, kind: Kind) -> Select[Artifact]:
    return select(Artifact).where(
        Artifact.job_id == job_id, Artifact.kind == kind, Artifact.state == State.READY
    )
