"""Stored objects in the states that tests start from, made by the statements the worker uses."""

from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries
from app.artifacts.tables import Artifact, Kind, State
from app.ids import new_id
from app.jobs.tables import Job

MORE: dict[Kind, dict[str, Any]] = {
    Kind.CHECKPOINT: {"format": "packed"},
    Kind.SNAPSHOT: {"step": 1},
    Kind.LOG: {},
}


def announce(
    sessions: sessionmaker[Session], job: Job, kind: Kind, name: str, **columns: Any
) -> str | None:
    """The id of an object that is about to be written; None where the attempt may not."""
    row = {
        "id": new_id("art"),
        "job_id": job.id,
        "attempt": job.attempt,
        "kind": kind,
        "name": name,
        "storage_key": f"{job.id}/a{job.attempt}/{name}",
        **MORE[kind],
        **columns,
    }
    with sessions.begin() as session:
        announced: str | None = session.scalar(queries.announce(row))
    return announced


def describe(sessions: sessionmaker[Session], artifact_id: str, **values: Any) -> bool:
    with sessions.begin() as session:
        statement = queries.describe(artifact_id, **{"size": 1, "sha256": "00", **values})
        return session.scalar(statement) is not None


def store(sessions: sessionmaker[Session], job: Job, kind: Kind, name: str, **columns: Any) -> str:
    """An object that readers see, without its bytes."""
    artifact_id = announce(sessions, job, kind, name, **columns)
    assert artifact_id
    assert describe(sessions, artifact_id, state=State.READY)
    return artifact_id


def artifacts(sessions: sessionmaker[Session], state: State) -> set[str]:
    """The names of all objects in a state."""
    with sessions() as session:
        return set(session.scalars(select(Artifact.name).where(Artifact.state == state)))


def retire(sessions: sessionmaker[Session], which: ColumnElement[bool]) -> set[str]:
    """The names of the objects that are given up."""
    with sessions.begin() as session:
        return set(session.scalars(queries.retire(which).returning(Artifact.name)))
