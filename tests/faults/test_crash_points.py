"""What ends hard at any moment that matters leaves jobs that go on as if it had not.

Each test crashes a supervisor, a sweep or the API at one of the moments that an undisturbed one
comes by, lets leases end and a sweep run, and starts supervisors until the job has ended.
"""

from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from tests.faults.crashing import crash, run, serving, supervisor, sweep
from tests.faults.toy import SPEC, Remains, expected_result, make_toy
from tests.jobs import event_types, job_row, submit
from worker.scratch import remove_left
from worker.sweeper import Sweeper

# In the order in which an undisturbed attempt comes by; and so below.
ARRIVALS = [
    "claim:sent",
    "claim:committed",
    *(
        3
        * [
            "object:announced",
            "storage:written",
            "storage:linked",
            "object:stored",
            "object:described",
            "snapshot:stored",
        ]
    ),
    "object:announced",
    "storage:written",
    "storage:linked",
    "object:stored",
    "object:described",
    "attempt:ending",
    "attempt:ended",
]
SWEEP_ARRIVALS = [
    *(4 * ["lease:expired"]),
    "queue:timed_out",
    "queue:baselines_ended",
    "wake:due",
    "wake:sent",
    *(2 * ["object:retired"]),
    *(2 * ["object:removed", "object:forgotten"]),
    "job:forgotten",
]
POST_ARRIVALS = ["request:done", "request:committed", "wake:due", "wake:sent"]


@pytest.fixture
def settings(settings: Settings, file_root: Path) -> Settings:
    make_toy(file_root)
    # Long enough for a slow machine: a test ends leases itself.
    return settings.model_copy(update={"lease_seconds": 120, "max_lost_attempts": 3})


@pytest.fixture
def remains(settings: Settings, sessions: sessionmaker[Session]) -> Remains:
    return Remains(settings, sessions)


def finish(settings: Settings, sessions: sessionmaker[Session], job_id: str, log: Path) -> None:
    """Let leases end, sweep, and go on until the job has ended."""
    for _ in range(5):
        with sessions.begin() as session:
            past = {"lease_until": moves.lease_end(-1)}
            session.execute(update(Job).where(Job.status == "running").values(past))
        Sweeper(settings).sweep()
        if job_row(sessions, job_id).status in ("succeeded", "failed", "cancelled"):
            return
        run(supervisor, settings, log)
    raise AssertionError("it never ended")


def clear(settings: Settings, engine: Engine, remains: Remains) -> None:
    """Sweep until nothing is left: snapshots of a job that has succeeded are of no more use."""
    for _ in range(2):
        Sweeper(settings).sweep()
    with engine.connect() as connection:
        remove_left(settings, connection)
    remains.check_nothing_is_left()


def test_an_undisturbed_attempt_comes_by_all_these_moments(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    remains: Remains,
    tmp_path: Path,
) -> None:
    log = tmp_path / "arrivals"
    job_id = submit(sessions, key.project_id, spec=SPEC)

    run(supervisor, settings, log)
    assert remains.result(job_id) == expected_result()
    assert log.read_text().split() == ARRIVALS


@pytest.mark.parametrize("crash_at", range(len(ARRIVALS)), ids=ARRIVALS)
def test_after_a_crash_the_job_ends_as_if_there_had_been_none(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    engine: Engine,
    remains: Remains,
    tmp_path: Path,
    crash_at: int,
) -> None:
    log = tmp_path / "arrivals"
    job_id = submit(sessions, key.project_id, spec=SPEC)
    crash(supervisor, settings, log, crash_at)
    assert log.read_text().split() == ARRIVALS[: crash_at + 1]

    finish(settings, sessions, job_id, log)

    assert remains.result(job_id) == expected_result()
    clear(settings, engine, remains)
    lost = "requeued" in event_types(sessions, job_id)
    assert lost == (ARRIVALS[crash_at] not in ("claim:sent", "attempt:ended"))


@pytest.fixture
def unswept(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey, tmp_path: Path
) -> tuple[str, str]:
    """A job whose worker died with its second snapshot stored, not yet its row, and a deleted."""
    log = tmp_path / "before"
    deleted = submit(sessions, key.project_id, spec=SPEC)
    crash(supervisor, settings, log, ARRIVALS.index("snapshot:stored"))
    with sessions.begin() as session:
        past = {"lease_until": moves.lease_end(-1), "cancel_requested": True}
        session.execute(update(Job).values(past))
        session.scalars(moves.delete(key.project_id, deleted)).one()
    lost = submit(sessions, key.project_id, spec=SPEC)
    crash(supervisor, settings, log, ARRIVALS.index("object:stored", 8))
    with sessions.begin() as session:
        past = {"lease_until": moves.lease_end(-1)}
        session.execute(update(Job).where(Job.id == lost).values(past))
    return lost, deleted


def test_an_undisturbed_sweep_comes_by_all_these_moments(
    settings: Settings, unswept: tuple[str, str], tmp_path: Path
) -> None:
    del unswept
    run(sweep, settings, tmp_path / "arrivals")

    assert (tmp_path / "arrivals").read_text().split() == SWEEP_ARRIVALS


@pytest.mark.parametrize("crash_at", range(len(SWEEP_ARRIVALS)), ids=SWEEP_ARRIVALS)
def test_what_a_sweep_leaves_that_ends_hard_is_swept_by_the_next(
    settings: Settings,
    sessions: sessionmaker[Session],
    engine: Engine,
    remains: Remains,
    unswept: tuple[str, str],
    tmp_path: Path,
    crash_at: int,
) -> None:
    lost, deleted = unswept
    crash(sweep, settings, tmp_path / "arrivals", crash_at)

    finish(settings, sessions, lost, tmp_path / "arrivals")

    assert remains.result(lost) == expected_result()
    clear(settings, engine, remains)
    with sessions() as session:
        assert session.get(Job, deleted) is None


@pytest.mark.parametrize("crash_at", range(len(POST_ARRIVALS)), ids=POST_ARRIVALS)
def test_a_job_posted_again_to_an_api_that_ended_hard_is_there_once(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    remains: Remains,
    tmp_path: Path,
    crash_at: int,
) -> None:
    log = tmp_path / "arrivals"
    headers = {"Authorization": f"Bearer {key.key}", "Idempotency-Key": "posted-twice"}

    def post(url: str) -> str:
        answer = httpx.post(f"{url}/jobs", json=SPEC, headers=headers, trust_env=False, timeout=60)
        return str(answer.raise_for_status().json()["id"])

    # Once the wake-up is due the answer may be out, or not.
    with serving(settings, log, crash_at) as url, suppress(httpx.TransportError):
        post(url)
    assert log.read_text().split() == POST_ARRIVALS[: crash_at + 1]
    with serving(settings, log) as url:
        job_id = post(url)

    with sessions() as session:
        assert session.scalars(select(Job.id)).all() == [job_id]
    finish(settings, sessions, job_id, log)
    assert remains.result(job_id) == expected_result()
