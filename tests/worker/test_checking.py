"""Checks of uploaded datasets: a real child reads a real file, and others do what they may not."""

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.backends import environment
from app.datasets import queries
from app.datasets.tables import Dataset, State
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage
from tests import datasets
from worker import checking
from worker.dataset_sweeps import sweep_datasets
from worker.devices import Device, take_free

Check = Callable[[], int]


@pytest.fixture
def slot(settings: Settings) -> Iterator[Device]:
    device = take_free(
        [checking.SLOT], settings.devices_dir, cpu_memory_bytes=settings.check_memory_bytes
    )
    assert device is not None
    yield device
    os.close(device.lock)


@pytest.fixture
def check(settings: Settings, slot: Device) -> Check:
    return lambda: checking.check_next(settings, slot)


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    run = f"import sys, runpy; sys.path.insert(0, {str(root)!r})"
    program = ("-c", f"{run}; runpy.run_module('tests.worker.bad_profiler', run_name='__main__')")
    monkeypatch.setattr(checking, "PROFILER", program)


def let_lease_end(sessions: sessionmaker[Session], dataset_id: str) -> None:
    with sessions.begin() as session:
        earlier = queries._after(-1)
        session.execute(update(Dataset).where(Dataset.id == dataset_id).values(lease_until=earlier))


@pytest.mark.parametrize("content", [datasets.CSV, gzip.compress(datasets.CSV)])
def test_a_file_that_can_be_read_is_ready_with_its_profile(
    check: Check,
    sessions: sessionmaker[Session],
    settings: Settings,
    key: NewKey,
    content: bytes,
) -> None:
    dataset = datasets.store(sessions, settings, key.project_id, content)

    assert check() == 0

    checked = datasets.row_of(sessions, dataset.id)
    assert checked.state == State.READY
    assert checked.profile is not None
    assert checked.profile["rows"] == 40
    assert checked.lease_until is None
    assert list(settings.scratch_dir.iterdir()) == []


def test_a_check_stays_its_own_while_the_bytes_come(
    settings: Settings,
    slot: Device,
    sessions: sessionmaker[Session],
    key: NewKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = datasets.store(sessions, settings, key.project_id, datasets.CSV)

    class Slow(LocalStorage):
        def place(self, key: str, path: Path) -> None:
            first = datasets.row_of(sessions, dataset.id).lease_until
            deadline = time.monotonic() + 30
            while datasets.row_of(sessions, dataset.id).lease_until == first:
                assert time.monotonic() < deadline, "the lease is not prolonged"
            super().place(key, path)

    monkeypatch.setattr(checking, "open_storage", lambda _: Slow(settings.storage_dir))

    assert checking.check_next(settings.model_copy(update={"renew_seconds": 0.1}), slot) == 0
    assert datasets.row_of(sessions, dataset.id).state == State.READY


def test_a_file_that_cannot_be_read_is_invalid_and_says_where(
    check: Check, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    content = b'{"text": "a"}\n{"text": \n'
    dataset = datasets.store(sessions, settings, key.project_id, content, format="jsonl")

    assert check() == 0

    checked = datasets.row_of(sessions, dataset.id)
    assert checked.state == State.INVALID
    assert checked.error is not None
    assert checked.error["code"] == "invalid_dataset"
    assert "2" in checked.error["message"]


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(bytes(2**25), 1) * 320,
    "line": lambda: b"text,label\n" + b"x" * 10**7,
    "columns": lambda: b"a," * 10**6 + b"a\n",
    "depth": lambda: b'{"a": ' * 10**5,
    "nul": lambda: b"text,label\na,\0\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(
    check: Check, sessions: sessionmaker[Session], settings: Settings, key: NewKey, bomb: str
) -> None:
    """Which the child is held to: more, and it would not have told what is wrong."""
    format_name = "jsonl" if bomb == "depth" else "csv"
    content = BOMBS[bomb]()
    dataset = datasets.store(sessions, settings, key.project_id, content, format=format_name)

    assert check() == 0

    checked = datasets.row_of(sessions, dataset.id)
    assert checked.state == State.INVALID
    assert (checked.error or {})["code"] == "invalid_dataset"


def test_bytes_that_changed_in_the_storage_are_not_read(
    check: Check, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    dataset = datasets.store(sessions, settings, key.project_id)
    LocalStorage(settings.storage_dir).path(dataset.storage_key).write_bytes(b"other")

    check()

    checked = datasets.row_of(sessions, dataset.id)
    assert (checked.state, (checked.error or {})["code"]) == (State.INVALID, "internal")


def test_the_process_takes_one_dataset_and_ends(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    stored = [datasets.store(sessions, settings, key.project_id, name=name) for name in ("a", "b")]

    command = [sys.executable, "-P", "-m", "worker.checking"]
    subprocess.run(command, env=os.environ | environment(settings), check=True)

    states = [datasets.row_of(sessions, dataset.id).state for dataset in stored]
    assert states == [State.READY, State.VALIDATING]


def test_checks_at_once_never_take_the_same(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    for name in ("a", "b", "c"):
        datasets.store(sessions, settings, key.project_id, name=name)
    taken: list[Dataset | None] = []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        taken.append(datasets.claim(sessions))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ids = [dataset.id for dataset in taken if dataset]
    assert len(ids) == len(set(ids))
    assert len({*ids, *(d.id for d in iter(lambda: datasets.claim(sessions), None))}) == 3


@pytest.mark.usefixtures("misbehaving")
@pytest.mark.parametrize("what", ["dies", "lies", "floods"])
def test_a_child_that_tells_nothing_usable_is_asked_again_and_then_no_more(
    check: Check, sessions: sessionmaker[Session], settings: Settings, key: NewKey, what: str
) -> None:
    dataset = datasets.store(sessions, settings, key.project_id, what.encode())
    storage = LocalStorage(settings.storage_dir)

    for _ in range(queries.MAX_CHECKS):
        assert datasets.row_of(sessions, dataset.id).state == State.VALIDATING
        assert check() != 0
        let_lease_end(sessions, dataset.id)
    assert check() == 0
    sweep_datasets(sessions, storage)

    checked = datasets.row_of(sessions, dataset.id)
    assert (checked.state, checked.attempt) == (State.INVALID, queries.MAX_CHECKS)
    assert "lost" in (checked.error or {})["message"]


@pytest.mark.usefixtures("misbehaving")
def test_a_child_that_hangs_is_killed_and_the_file_refused(
    settings: Settings, slot: Device, sessions: sessionmaker[Session], key: NewKey
) -> None:
    dataset = datasets.store(sessions, settings, key.project_id, b"hangs")

    checking.check_next(settings.model_copy(update={"check_seconds": 0.5}), slot)

    checked = datasets.row_of(sessions, dataset.id)
    assert checked.state == State.INVALID
    assert "longer than the 0.5 s" in (checked.error or {})["message"]


@pytest.mark.usefixtures("misbehaving")
def test_a_child_cannot_fill_the_disk(
    check: Check, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    dataset = datasets.store(sessions, settings, key.project_id, b"fills")

    assert check() != 0

    assert datasets.row_of(sessions, dataset.id).state == State.VALIDATING


@pytest.mark.usefixtures("misbehaving")
def test_a_child_has_no_credentials(
    check: Check,
    sessions: sessionmaker[Session],
    settings: Settings,
    key: NewKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_TOKEN", "secret")
    dataset = datasets.store(sessions, settings, key.project_id, b"spies")

    check()

    assert (datasets.row_of(sessions, dataset.id).error or {})["message"] == "[] a1"


def test_a_check_that_was_overtaken_writes_nothing(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    datasets.store(sessions, settings, key.project_id)
    first = datasets.claim(sessions)
    assert first is not None
    let_lease_end(sessions, first.id)
    second = datasets.claim(sessions)
    assert second is not None

    with sessions.begin() as session:
        late = session.scalars(queries.end_check(first, State.INVALID, error={})).all()
        on_time = session.scalars(queries.renew_check(second, 30)).all()

    assert (second.id, late, on_time) == (first.id, [], [second.id])


def test_what_a_killed_upload_left_goes(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    storage = LocalStorage(settings.storage_dir)
    row: dict[str, object] = {
        "id": "ds_1",
        "project_id": key.project_id,
        "name": "x",
        "format": "csv",
    }
    row |= {"storage_key": "p/datasets/ds_1", "charged_bytes": 10**9}
    with sessions.begin() as session:
        session.execute(queries.announce(row, 60))
    temporary = storage.root / "p/datasets/.tmp-ds_1"
    temporary.parent.mkdir(parents=True)
    temporary.write_bytes(b"half")

    sweep_datasets(sessions, storage)
    assert temporary.exists()  # it may still be arriving
    let_lease_end(sessions, "ds_1")
    sweep_datasets(sessions, storage)

    with sessions() as session:
        assert session.get(Dataset, "ds_1") is None
    assert list(storage.root.iterdir()) == []
