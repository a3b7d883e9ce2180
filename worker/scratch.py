"""Scratch folders of attempts that ended together with their process."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, select, tuple_

from app.jobs.states import Status
from app.jobs.tables import Job
from app.settings import Settings


def folder_of(settings: Settings, job_id: str, attempt: int) -> Path:
    return settings.scratch_dir / job_id / f"a{attempt}"


def remove_left(settings: Settings, connection: Connection) -> None:
    """Remove the folder of each attempt that runs no more, whatever host it ran on."""
    # Listed before the database is asked: an attempt claims its job before it makes its folder.
    folders = list(settings.scratch_dir.glob("*/a*"))
    running = _running(
        [(folder.parent.name, int(folder.name[1:])) for folder in folders], connection
    )
    for folder in folders:
        if (folder.parent.name, int(folder.name[1:])) not in running:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another attempt's folder is in it
                folder.parent.rmdir()


def _running(attempts: Sequence[tuple[str, int]], connection: Connection) -> set[tuple[str, int]]:
    found = select(Job.id, Job.attempt).where(
        Job.status == Status.RUNNING, tuple_(Job.id, Job.attempt).in_(attempts)
    )
    return {(job_id, attempt) for job_id, attempt in connection.execute(found)}
