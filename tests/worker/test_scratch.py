"""What attempts leave on a disk goes once they run no more, and not before."""

import os
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from app.estimates import queries as estimates
from app.jobs.states import FAIL
from app.projects.service import NewKey
from app.settings import Settings
from tests import datasets
from tests.jobs import SPEC, claim, leave, submit
from worker.scratch import folder_of, make, remove_left


@pytest.mark.parametrize("attempt", [1, 2])
def test_only_the_folder_of_an_attempt_that_runs_stays(
    settings: Settings, sessions: sessionmaker[Session], engine: Engine, key: NewKey, attempt: int
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    folder = folder_of(settings, job.id, attempt)
    (folder / "out").mkdir(parents=True)
    with engine.connect() as connection:
        remove_left(settings, connection)

    assert folder.exists() == (attempt == job.attempt)


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_folder_of_a_check_stays_while_it_is_the_one_that_counts(
    settings: Settings, sessions: sessionmaker[Session], engine: Engine, key: NewKey, attempt: int
) -> None:
    datasets.store(sessions, settings, key.project_id)
    dataset = datasets.claim(sessions)
    assert dataset is not None
    folder = folder_of(settings, dataset.id, attempt)
    folder.mkdir(parents=True)
    with engine.connect() as connection:
        remove_left(settings, connection)

    assert folder.exists() == (attempt == dataset.attempt)


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_folder_of_an_estimate_stays_while_it_is_worked_out(
    settings: Settings, sessions: sessionmaker[Session], engine: Engine, key: NewKey, attempt: int
) -> None:
    with sessions.begin() as session:
        session.execute(estimates.ask("est_1", key.project_id, SPEC))
        assert session.scalars(estimates.claim()).one().attempt == 1
    folder = folder_of(settings, "est_1", attempt)
    folder.mkdir(parents=True)
    with engine.connect() as connection:
        remove_left(settings, connection)

    assert folder.exists() == (attempt == 1)


def test_the_folder_of_a_job_that_has_ended_goes(
    settings: Settings, sessions: sessionmaker[Session], engine: Engine, key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    (folder_of(settings, job.id, job.attempt) / "out").mkdir(parents=True)
    leave(sessions, FAIL, job)
    with engine.connect() as connection:
        remove_left(settings, connection)

    assert list(settings.scratch_dir.iterdir()) == []


@pytest.mark.parametrize("whose", ["job_1", "ds_1", "est_1"])
def test_an_empty_folder_goes(whose: str, settings: Settings, engine: Engine) -> None:
    folder_of(settings, whose, 1).parent.mkdir(parents=True)
    with engine.connect() as connection:
        remove_left(settings, connection)

    assert list(settings.scratch_dir.iterdir()) == []


def test_a_folder_is_made_although_the_one_around_it_is_removed_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mkdir = folder_of(settings, "est_1", 1), os.mkdir
    made: list[str] = []

    def racing(path: Path, mode: int = 0o777) -> None:
        mkdir(path, mode)
        made.append(str(path))
        if made.count(str(folder.parent)) == 1 and path == folder.parent:
            folder.parent.rmdir()

    monkeypatch.setattr(os, "mkdir", racing)
    make(folder)

    assert made.count(str(folder.parent)) == 2
    assert folder.is_dir()


def test_where_nothing_ever_ran_there_is_nothing_to_remove(
    settings: Settings, engine: Engine
) -> None:
    with engine.connect() as connection:
        remove_left(settings, connection)

    assert not settings.scratch_dir.exists()
