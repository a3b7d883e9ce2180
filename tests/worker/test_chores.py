"""Chores: one process a piece of work, until there is none; asked for, or on a timer."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, Select, exists, func, select

from app.projects.service import create_key
from app.projects.tables import ApiKey, Project
from worker.chores import Chore

# Does one piece of work: a key is one. Found in the current folder, which `-P` leaves out.
MODULE = "tests.worker.one_key_less"


def keys_left() -> Select[bool]:
    return select(exists(select(ApiKey.id)))


@pytest.fixture
def one_a_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Two keys to be taken; a chore's processes find the database by their environment."""
    with engine.begin() as connection:
        for name in ("first", "second"):
            create_key(connection, name=name)
    url = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("PST_DATABASE_URL", url)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return engine


def left(engine: Engine) -> int | None:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(ApiKey))


def test_it_starts_processes_until_there_is_no_work(one_a_run: Engine) -> None:
    Chore(module=MODULE, waits=keys_left, engine=one_a_run, seconds=60).work_off()

    assert left(one_a_run) == 0


def test_it_leaves_work_that_a_process_could_not_do_to_the_next_look(
    one_a_run: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    Chore(module="tests.worker.no_such", waits=keys_left, engine=one_a_run, seconds=60).work_off()

    assert left(one_a_run) == 2
    assert "ended with status 1" in caplog.text


def test_it_looks_at_once_when_it_is_woken(engine: Engine) -> None:
    looked: list[str] = []
    twice = threading.Event()

    def no_work() -> Select[bool]:
        looked.append("once")
        if len(looked) == 2:
            twice.set()
        return select(exists(select(Project.id).where(Project.id == "none")))

    chore = Chore(module=MODULE, waits=no_work, engine=engine, seconds=3600)
    chore.start()
    chore.wake()

    assert twice.wait(30)
    chore.shut_down()
