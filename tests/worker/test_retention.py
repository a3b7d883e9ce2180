"""Jobs that have ended are kept as long as the operator says, then deleted with all they stored."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.tables import Job, JobEvent
from app.projects.service import NewKey
from app.settings import Settings
from tests.jobs import bring_to, job_row, let_pass
from worker.sweeper import Sweeper

DAY = 24 * 3600.0


def ended(sessions: sessionmaker[Session], key: NewKey, state: str, seconds: float) -> str:
    job_id = bring_to(sessions, key.project_id, state)
    let_pass(sessions, job_id, seconds)
    return job_id


def deleted(sessions: sessionmaker[Session]) -> list[str]:
    with sessions.begin() as session:
        return [job.id for job in session.scalars(moves.delete_old(DAY))]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_job_that_ended_long_ago_is_deleted_and_its_event_says_why(
    sessions: sessionmaker[Session], key: NewKey, state: str
) -> None:
    job_id = ended(sessions, key, state, DAY + 60)

    assert deleted(sessions) == [job_id]
    assert job_row(sessions, job_id).deleted_at is not None
    with sessions() as session:
        event = session.scalars(select(JobEvent).order_by(JobEvent.seq.desc()).limit(1)).one()
    assert (event.type, event.data) == ("deleted", {"reason": "retention"})
    assert deleted(sessions) == []


def test_a_job_that_ended_lately_is_kept(sessions: sessionmaker[Session], key: NewKey) -> None:
    ended(sessions, key, "succeeded", DAY - 60)

    assert deleted(sessions) == []


@pytest.mark.parametrize("state", ["paused", "running"])
def test_a_job_that_has_not_ended_is_kept_however_old(
    sessions: sessionmaker[Session], key: NewKey, state: str
) -> None:
    ended(sessions, key, state, 100 * DAY)

    assert deleted(sessions) == []


def test_a_sweep_removes_all_rows_of_what_was_kept_long_enough(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    ended(sessions, key, "failed", DAY + 60)
    Sweeper(settings.model_copy(update={"keep_jobs_seconds": DAY})).sweep()

    with sessions() as session:
        assert session.scalars(select(Job)).all() == []


def test_without_the_setting_jobs_are_kept_for_ever(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    job_id = ended(sessions, key, "succeeded", 10_000 * DAY)
    Sweeper(settings).sweep()

    assert job_row(sessions, job_id).deleted_at is None
