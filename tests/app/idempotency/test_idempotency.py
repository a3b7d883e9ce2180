"""A request sent again under its key gets its first answer and does nothing more."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.idempotency import queries
from app.idempotency.tables import IdempotencyKey
from app.jobs.tables import Job
from app.projects.service import create_key
from app.settings import Settings
from worker.sweeper import Sweeper

KEY = {"Idempotency-Key": "nightly-2026-11-25"}


def jobs(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(Job)).scalar_one()


def age(sessions: sessionmaker[Session], hours: float) -> None:
    with sessions.begin() as session:
        earlier = func.now() - func.make_interval(0, 0, 0, 0, hours)
        session.execute(update(IdempotencyKey).values(created_at=earlier))


def test_the_same_request_again_is_the_same_job(
    client: TestClient, connection: Connection, spec: dict[str, object]
) -> None:
    first = client.post("/jobs", json=spec, headers=KEY)
    client.post(f"/jobs/{first.json()['id']}/cancel")
    again = client.post("/jobs", json=spec, headers=KEY)

    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert jobs(connection) == 1


def test_defaults_that_are_spelt_out_make_no_other_request(
    client: TestClient, connection: Connection, spec: dict[str, object]
) -> None:
    first = client.post("/jobs", json=spec, headers=KEY)
    again = client.post("/jobs", json={**spec, "method": "pst", "seed": 0}, headers=KEY)

    assert again.json() == first.json()
    assert jobs(connection) == 1


def test_another_request_under_the_key_is_refused(
    client: TestClient, connection: Connection, spec: dict[str, object]
) -> None:
    client.post("/jobs", json=spec, headers=KEY)
    other = client.post("/jobs", json={**spec, "sparsity": 0.5}, headers=KEY)

    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"
    assert jobs(connection) == 1


def test_twenty_at_once_make_one_job_and_get_one_answer(
    client: TestClient, connection: Connection, spec: dict[str, object]
) -> None:
    with ThreadPoolExecutor(20) as pool:
        posts = [pool.submit(client.post, "/jobs", json=spec, headers=KEY) for _ in range(20)]
    answers = [post.result() for post in posts]

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert jobs(connection) == 1


def test_a_refused_request_leaves_its_key_for_the_corrected_one(
    client: TestClient, spec: dict[str, object]
) -> None:
    refused = client.post("/jobs", json={**spec, "model": "pkg:no-such"}, headers=KEY)
    corrected = client.post("/jobs", json=spec, headers=KEY)

    assert (refused.status_code, corrected.status_code) == (422, 202)


def test_another_projects_key_is_another_key(
    client: TestClient, engine: Engine, connection: Connection, spec: dict[str, object]
) -> None:
    client.post("/jobs", json=spec, headers=KEY)
    with engine.begin() as session:
        other = create_key(session, name="other", project="other")
    client.post("/jobs", json=spec, headers={**KEY, "Authorization": f"Bearer {other.key}"})

    assert jobs(connection) == 2


@pytest.mark.parametrize("value", ["", " ", "a b", "x" * 256])
def test_a_key_that_is_none_is_refused(
    client: TestClient, spec: dict[str, object], value: str
) -> None:
    answer = client.post("/jobs", json=spec, headers={"Idempotency-Key": value})

    assert answer.status_code == 422
    assert answer.json()["field"] == "Idempotency-Key"


def test_without_a_key_each_request_is_a_job(
    client: TestClient, connection: Connection, spec: dict[str, object]
) -> None:
    for _ in range(2):
        client.post("/jobs", json=spec)

    assert jobs(connection) == 2


@pytest.mark.parametrize(("hours", "made"), [(-1, 1), (1, 2)])
def test_a_key_is_forgotten_after_a_day(
    client: TestClient,
    settings: Settings,
    sessions: sessionmaker[Session],
    connection: Connection,
    spec: dict[str, object],
    hours: int,
    made: int,
) -> None:
    client.post("/jobs", json=spec, headers=KEY)
    age(sessions, queries.KEPT_HOURS + hours)
    Sweeper(settings).sweep()
    client.post("/jobs", json=spec, headers=KEY)

    assert jobs(connection) == made
