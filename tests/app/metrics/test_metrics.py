"""GET /jobs/{id}/metrics: pages, the whole series as CSV, and its outline."""

import csv
import math
from collections.abc import Callable, Sequence

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import queries
from app.jobs.tables import Job
from app.metrics import service
from app.projects.service import NewKey
from tests.jobs import claim, submit

COLUMNS = ["step", "stage", "loss", "sparsity", "learning_rate"]

Write = Callable[[Sequence[float]], None]
Get = Callable[..., Response]


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


@pytest.fixture
def write(sessions: sessionmaker[Session], job: Job) -> Write:
    """Writes the losses of steps from 1 on."""

    def write(losses: Sequence[float]) -> None:
        rows = [
            {"step": step, "stage": "main", "loss": loss, "sparsity": 0.5, "learning_rate": 1e-4}
            for step, loss in enumerate(losses, 1)
        ]
        with sessions.begin() as session:
            session.execute(queries.write_metrics(job, rows))

    return write


@pytest.fixture
def get(client: TestClient, job: Job) -> Get:
    def get(accept: str = "*/*", **params: str | int) -> Response:
        return client.get(
            f"/jobs/{job.id}/metrics", params=params, headers={"Accept": accept}
        ).raise_for_status()

    return get


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


def test_pages_come_in_order_of_steps(write: Write, get: Get) -> None:
    write([0.5, 0.4, 0.3])

    first = get(limit=2).json()
    rest = get(cursor=first["next_cursor"]).json()

    assert [metric["step"] for metric in first["data"]] == [1, 2]
    assert [metric["loss"] for metric in rest["data"]] == [0.3]
    assert not rest["has_more"]


@pytest.mark.parametrize("how", [{"accept": "text/csv"}, {"format": "csv"}])
def test_csv_has_the_whole_series(
    write: Write, get: Get, how: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CSV_ROWS", 3)
    write([0.1 * step for step in range(1, 8)])

    answer = get(**how)

    header, *series = rows(answer.text)
    assert answer.headers["content-type"].startswith("text/csv")
    assert header == COLUMNS
    assert [(int(step), float(loss)) for step, _, loss, _, _ in series] == [
        (metric["step"], metric["loss"]) for metric in get().json()["data"]
    ]


@pytest.mark.parametrize("steps", [0, 3])
def test_csv_that_ends_with_a_chunk_has_one_header(
    write: Write, get: Get, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(service, "CSV_ROWS", 3)
    if steps:
        write([1.0] * steps)

    assert [row[0] for row in rows(get(format="csv").text)] == ["step", "1", "2", "3"][: steps + 1]


def test_json_is_asked_for_in_the_url_whatever_the_header_says(write: Write, get: Get) -> None:
    write([1.0])

    assert get(accept="text/csv", format="json").json()["data"][0]["loss"] == 1.0


@pytest.mark.parametrize("points", [4, 5, 10, 99])
def test_an_outline_is_short_and_keeps_the_ends_and_the_extremes(
    write: Write, get: Get, points: int
) -> None:
    losses = [1 + math.sin(step) / step for step in range(1, 500)]
    losses[77], losses[311] = 9.0, -9.0
    write(losses)

    outline = get(points=points).json()

    shown = {metric["step"]: metric["loss"] for metric in outline["data"]}
    assert list(shown) == sorted(shown)
    assert points // 2 <= len(shown) <= points
    assert not outline["has_more"]
    assert {1, 78, 312, 499} <= set(shown)
    assert all(losses[step - 1] == loss for step, loss in shown.items())


@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_the_outline_of_a_short_series_is_the_series(write: Write, get: Get, steps: int) -> None:
    write([float(step) for step in range(steps)])

    assert get(points=10).json()["data"] == get().json()["data"]


def test_an_outline_comes_as_csv_too(write: Write, get: Get) -> None:
    write([float(step) for step in range(100)])

    steps = [int(row[0]) for row in rows(get(format="csv", points=6).text)[1:]]

    assert steps == [metric["step"] for metric in get(points=6).json()["data"]]


@pytest.mark.parametrize("asked", [{"format": "csv"}, {"points": 10}])
def test_what_comes_whole_has_no_cursor(
    client: TestClient, job: Job, write: Write, get: Get, asked: dict[str, str | int]
) -> None:
    write([1.0, 2.0])
    cursor = get(limit=1).json()["next_cursor"]

    answer = client.get(f"/jobs/{job.id}/metrics", params={"cursor": cursor, **asked})

    assert (answer.status_code, answer.json()["field"]) == (422, "cursor")
