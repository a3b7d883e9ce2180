"""GET of jobs, their lists, events and metrics, and who may see them."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves, queries
from app.projects.service import NewKey
from tests.jobs import claim


def post(client: TestClient, spec: dict[str, object], count: int) -> list[str]:
    return [client.post("/jobs", json=spec).json()["id"] for _ in range(count)]


def test_the_list_shows_the_newest_first_and_pages_through_all(
    client: TestClient, spec: dict[str, object]
) -> None:
    ids = post(client, spec, 5)

    first = client.get("/jobs", params={"limit": 3}).json()
    rest = client.get("/jobs", params={"limit": 3, "cursor": first["next_cursor"]}).json()

    assert [job["id"] for job in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def test_the_list_can_be_narrowed_to_a_status(
    client: TestClient, sessions: sessionmaker[Session], spec: dict[str, object]
) -> None:
    ids = post(client, spec, 2)
    claim(sessions)

    running = client.get("/jobs", params={"status": "running"}).json()["data"]

    assert [job["id"] for job in running] == ids[:1]


@pytest.mark.parametrize("cursor", ["%", "bm90IGEgbnVtYmVyIQ\x00", "AAAA", "x" * 257])
def test_a_cursor_that_is_not_ours_is_refused(client: TestClient, cursor: str) -> None:
    answer = client.get("/jobs", params={"cursor": cursor})

    assert answer.status_code == 422
    assert answer.json()["field"] == "cursor"


def test_a_cursor_of_another_project_is_refused(
    client: TestClient, foreign_key: NewKey, spec: dict[str, object]
) -> None:
    post(client, spec, 3)
    cursor = client.get("/jobs", params={"limit": 1}).json()["next_cursor"]
    client.headers["Authorization"] = f"Bearer {foreign_key.key}"

    assert client.get("/jobs", params={"cursor": cursor}).status_code == 422


def test_a_running_job_shows_phase_and_progress(
    client: TestClient, sessions: sessionmaker[Session], spec: dict[str, object]
) -> None:
    (job_id,) = post(client, spec, 1)
    job = claim(sessions)
    progress = {
        "stage": "main",
        "step": 3,
        "total_steps": 10,
        "loss": 0.5,
        "sparsity": 0.2,
        "learning_rate": 1e-4,
        "eta_seconds": 7.0,
    }
    with sessions.begin() as session:
        session.scalars(
            moves.record(job.id, job.attempt, "phase", {"phase": "training"}, phase="training")
        ).one()
        session.execute(queries.set_progress(job.id, job.attempt, progress))

    shown = client.get(f"/jobs/{job_id}").json()

    assert (shown["status"], shown["phase"], shown["attempt"]) == ("running", "training", 1)
    assert shown["progress"] == progress | {"fraction": 0.3}
