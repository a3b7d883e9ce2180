"""Checkpoints that are published as a worker publishes them, without training any."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries
from app.artifacts.tables import Artifact, Kind
from app.ids import new_id
from app.jobs import moves
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from app.settings import Settings
from app.storage import LocalStorage, open_storage
from worker.publish import write_archive


def publish(
    sessions: sessionmaker[Session],
    settings: Settings,
    job: Job,
    folders: Mapping[str, Path],
    *,
    result: Mapping[str, Any] | None = None,
) -> None:
    """Let a running job succeed with a folder for each format."""
    for format_name, folder in folders.items():
        store(sessions, settings, job, format_name, folder)
    with sessions.begin() as session:
        statements = moves.leave_running(
            SUCCEED, job.id, job.attempt, values={"result": result} if result else {}
        )
        assert [left for statement in statements for left in session.scalars(statement)]
        session.execute(queries.publish(job.id, job.attempt))


def store(
    sessions: sessionmaker[Session], settings: Settings, job: Job, format_name: str, folder: Path
) -> None:
    """Write one format of a running job's checkpoint, not yet published."""
    root = f"{job.id}-{format_name}"
    row = {
        "id": new_id("art"),
        "job_id": job.id,
        "attempt": job.attempt,
        "kind": Kind.CHECKPOINT,
        "format": format_name,
        "name": f"{root}.tar",
        "storage_key": f"{job.project_id}/{job.id}/{format_name}",
    }
    with sessions.begin() as session:
        session.execute(queries.announce(row))
    storage = open_storage(settings)
    with storage.write(str(row["storage_key"]), file_name=str(row["name"])) as stored:
        found = write_archive(folder, root, stored, on_read=lambda: None)
    with sessions.begin() as session:
        described = {"size": stored.size, "sha256": stored.sha256, **found}
        session.execute(queries.describe(str(row["id"]), **described))


def stored_path(
    sessions: sessionmaker[Session], settings: Settings, job: Job, format_name: str
) -> Path:
    """Where the bytes of a published checkpoint lie."""
    keys = select(Artifact.storage_key).where(
        Artifact.job_id == job.id, Artifact.format == format_name
    )
    with sessions() as session:
        return LocalStorage(settings.storage_dir).path(session.scalars(keys).one())
