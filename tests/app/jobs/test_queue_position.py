"""Where a queued job stands: in the order in which workers would take the jobs now."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.jobs import bring_to, claim, submit


def position(client: TestClient, job_id: str) -> int | None:
    shown: int | None = client.get(f"/jobs/{job_id}").json()["queue_position"]
    return shown


def change(sessions: sessionmaker[Session], job_id: str, **values: Any) -> None:
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))


def test_older_jobs_come_first(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    ids = [submit(sessions, key.project_id) for _ in range(3)]

    assert [position(client, job_id) for job_id in ids] == [1, 2, 3]


def test_more_urgent_jobs_come_first(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    old, urgent = submit(sessions, key.project_id), submit(sessions, key.project_id, priority=1)

    assert [position(client, job_id) for job_id in (old, urgent)] == [2, 1]


def test_jobs_of_projects_with_fewer_running_come_first(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, foreign_key: NewKey
) -> None:
    bring_to(sessions, key.project_id, "running")
    mine = submit(sessions, key.project_id)
    submit(sessions, foreign_key.project_id)

    assert position(client, mine) == 2


def test_the_first_is_the_one_that_a_worker_takes(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, foreign_key: NewKey
) -> None:
    bring_to(sessions, foreign_key.project_id, "running")
    submit(sessions, foreign_key.project_id)
    mine = [submit(sessions, key.project_id, priority=priority) for priority in (0, 1, 0)]

    first = [job_id for job_id in mine if position(client, job_id) == 1]

    assert first == [claim(sessions).id]


def test_jobs_that_must_wait_and_jobs_for_other_devices_stand_in_nobodys_way(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    waiting, for_gpus, mine = (submit(sessions, key.project_id) for _ in range(3))
    change(sessions, waiting, not_before=func.now() + func.make_interval(0, 0, 0, 0, 1))
    change(sessions, for_gpus, device="gpu")
    change(sessions, mine, device="cpu")

    assert position(client, mine) == 1


@pytest.mark.parametrize("state", ["running", "paused", "succeeded", "failed", "cancelled"])
def test_only_queued_jobs_have_a_position(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, state: str
) -> None:
    assert position(client, bring_to(sessions, key.project_id, state)) is None
