"""Scratch folders of attempts, at jobs, checks and estimates, that ended with their process."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, select, tuple_

from app.datasets.tables import Dataset, State
from app.estimates import tables as estimating
from app.estimates.tables import Estimate
from app.jobs.states import Status
from app.jobs.tables import Job
from app.settings import Settings


def folder_of(settings: Settings, whose: str, attempt: int) -> Path:
    """Of an attempt at a job, at the check of a dataset, or at an estimate."""
    return settings.scratch_dir / whose / f"a{attempt}"


def make(folder: Path) -> None:
    """Make the folder of an attempt."""
    while True:
        # The one around it may be removed as empty before this one is in it.
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True)
            return


def remove(folder: Path) -> None:
    """Remove the folder of an attempt, and the one around it unless another attempt has one."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another attempt's folder is in it
        folder.parent.rmdir()


def remove_left(settings: Settings, connection: Connection) -> None:
    """Remove the folder of each attempt that runs no more, whatever host it ran on."""
    # Listed before the database is asked: an attempt is claimed before it makes its folder.
    folders = list(settings.scratch_dir.glob("*/a*"))
    running = _running(
        [(folder.parent.name, int(folder.name[1:])) for folder in folders], connection
    )
    for folder in folders:
        if (folder.parent.name, int(folder.name[1:])) not in running:
            remove(folder)
    # Who is killed between making, or removing, an attempt's folder and the one around it leaves
    # that, empty.
    for folder in settings.scratch_dir.glob("*"):
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _running(attempts: Sequence[tuple[str, int]], connection: Connection) -> set[tuple[str, int]]:
    jobs = select(Job.id, Job.attempt).where(
        Job.status == Status.RUNNING, tuple_(Job.id, Job.attempt).in_(attempts)
    )
    checks = select(Dataset.id, Dataset.attempt).where(
        Dataset.state == State.VALIDATING, tuple_(Dataset.id, Dataset.attempt).in_(attempts)
    )
    estimates = select(Estimate.id, Estimate.attempt).where(
        Estimate.status == estimating.State.RUNNING,
        tuple_(Estimate.id, Estimate.attempt).in_(attempts),
    )
    return {
        (whose, attempt)
        for found in (jobs, checks, estimates)
        for whose, attempt in connection.execute(found)
    }
