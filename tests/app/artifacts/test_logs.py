"""GET /jobs/{id}/logs: what the trainers printed, put together from its parts."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Artifact, Kind
from app.jobs.states import REQUEUE
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage
from tests.artifacts import announce, retire, store
from tests.jobs import claim, leave, submit


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


def write(sessions: sessionmaker[Session], settings: Settings, name: str, content: bytes) -> None:
    with sessions() as session:
        key = session.scalars(select(Artifact.storage_key).where(Artifact.name == name)).one()
    with LocalStorage(settings.storage_dir).write(key) as target:
        target.write(content)


def test_a_job_that_has_printed_nothing_has_an_empty_log(client: TestClient, job: Job) -> None:
    answer = client.get(f"/jobs/{job.id}/logs")

    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_parts_of_all_attempts_come_in_the_order_they_were_printed(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job
) -> None:
    for name in ("log-2", "log-1"):
        store(sessions, job, Kind.LOG, name)
    leave(sessions, REQUEUE, job)
    store(sessions, claim(sessions), Kind.LOG, "log-0")
    for name, content in (("log-0", b"third\n"), ("log-1", b"f\xffirst\n"), ("log-2", b"second\n")):
        write(sessions, settings, name, content)

    assert client.get(f"/jobs/{job.id}/logs").content == b"f\xffirst\nsecond\nthird\n"


def test_only_what_was_printed_and_is_kept_is_shown(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job
) -> None:
    store(sessions, job, Kind.SNAPSHOT, "snapshot")
    announce(sessions, job, Kind.LOG, "in flight")
    store(sessions, job, Kind.LOG, "given up")
    store(sessions, job, Kind.LOG, "log")
    for name in ("snapshot", "in flight", "given up", "log"):
        write(sessions, settings, name, name.encode())
    retire(sessions, Artifact.name == "given up")

    assert client.get(f"/jobs/{job.id}/logs").text == "log"


def test_a_part_that_is_gone_leaves_the_others_readable(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job
) -> None:
    store(sessions, job, Kind.LOG, "log-1")
    store(sessions, job, Kind.LOG, "log-2")
    write(sessions, settings, "log-2", b"second")

    assert client.get(f"/jobs/{job.id}/logs").text == "second"
