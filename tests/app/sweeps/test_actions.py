"""How a sweep stands, and what can be done with all of its jobs at once."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import queries
from app.jobs.states import FAIL, REQUEUE, SUCCEED, Status
from app.jobs.tables import Job
from app.settings import Settings
from app.sweeps.states import derive
from app.sweeps.tables import Sweep
from tests.app.sweeps.conftest import Post, Succeed
from tests.jobs import claim, job_row, leave
from worker.sweeper import Sweeper

Q, R, P, S, F, C = Status  # in the order in which they are listed there


@pytest.mark.parametrize(
    ("jobs", "status"),
    [
        ({Q: 3}, "queued"),
        ({Q: 2, R: 1}, "running"),
        ({Q: 2, S: 1}, "running"),
        ({R: 1, P: 1, F: 1}, "running"),
        ({P: 1, S: 1, F: 1}, "paused"),
        ({P: 2}, "paused"),
        ({S: 3}, "succeeded"),
        ({S: 2, F: 1}, "partly_failed"),
        ({S: 1, F: 1, C: 1}, "partly_failed"),
        ({F: 2}, "failed"),
        ({F: 1, C: 1}, "failed"),
        ({S: 1, C: 1}, "cancelled"),
        ({C: 2}, "cancelled"),
        ({S: 1, F: 0, Q: 0}, "succeeded"),
        ({}, "cancelled"),
    ],
)
def test_its_status_is_read_off_its_jobs(jobs: dict[Status, int], status: str) -> None:
    assert derive(jobs) == status


def shown(client: TestClient, sweep_id: str) -> dict[str, object]:
    """As it is shown alone, which is as it is listed."""
    sweep: dict[str, object] = client.get(f"/sweeps/{sweep_id}").json()
    (listed,) = client.get("/sweeps").json()["data"]
    assert listed == {name: sweep[name] for name in listed}
    return sweep


def test_a_failed_job_does_not_sink_the_sweep(
    client: TestClient, sessions: sessionmaker[Session], post: Post, succeed: Succeed
) -> None:
    sweep = post(sparsities=[0.5, 0.7, 0.9])
    leave(sessions, FAIL, claim(sessions))
    assert shown(client, sweep["id"])["status"] == "running"
    done = succeed(0.75, 80)

    half = shown(client, sweep["id"])
    assert half["counts"] == {"failed": 1, "succeeded": 1, "queued": 1}
    assert half["fraction"] == pytest.approx(2 / 3)
    result = {job["id"]: job for job in half["jobs"]}[done.id]  # type: ignore[attr-defined]
    assert (result["metric"]["value"], result["bytes"]) == (0.75, {"packed": 80})

    succeed()
    assert shown(client, sweep["id"])["status"] == "partly_failed"


def test_its_progress_is_that_of_its_jobs(
    client: TestClient, sessions: sessionmaker[Session], post: Post
) -> None:
    sweep = post()
    job = claim(sessions)
    with sessions.begin() as session:
        session.execute(queries.set_progress(job.id, job.attempt, {"step": 20, "total_steps": 80}))

    answer = client.get("/sweeps").json()["data"][0]
    assert (answer["id"], answer["fraction"]) == (sweep["id"], 0.125)


def test_a_cancel_stops_what_runs_and_what_waits_and_keeps_what_has_ended(
    client: TestClient, sessions: sessionmaker[Session], post: Post, succeed: Succeed
) -> None:
    sweep = post(sparsities=[0.3, 0.5, 0.7, 0.9])
    done, running = succeed(), claim(sessions)
    for _ in range(2):  # idempotent
        answer = client.post(f"/sweeps/{sweep['id']}/cancel")
        assert answer.status_code == 202
    assert answer.json()["counts"] == {"succeeded": 1, "running": 1, "cancelled": 2}

    leave(sessions, SUCCEED, running)
    assert shown(client, sweep["id"])["status"] == "cancelled"
    assert client.post(f"/sweeps/{sweep['id']}/cancel").status_code == 202
    assert job_row(sessions, done.id).status == "succeeded"


def test_a_pause_keeps_its_jobs_from_going_on_until_it_is_resumed(
    client: TestClient, sessions: sessionmaker[Session], post: Post
) -> None:
    sweep = post(sparsities=[0.5, 0.7, 0.9])
    one = claim(sessions)
    for _ in range(2):
        answer = client.post(f"/sweeps/{sweep['id']}/pause")
        assert answer.status_code == 202
    assert answer.json()["counts"] == {"running": 1, "paused": 2}
    paused = leave(sessions, REQUEUE, one)
    assert paused is not None
    assert paused.status == "paused"
    assert shown(client, sweep["id"])["status"] == "paused"

    for _ in range(2):
        assert client.post(f"/sweeps/{sweep['id']}/resume").json()["counts"] == {"queued": 3}


def test_a_running_job_that_was_to_be_paused_runs_on_when_the_sweep_is_resumed(
    client: TestClient, sessions: sessionmaker[Session], post: Post
) -> None:
    sweep = post()
    job = claim(sessions)
    client.post(f"/sweeps/{sweep['id']}/pause")
    client.post(f"/sweeps/{sweep['id']}/resume")

    left = leave(sessions, REQUEUE, job)
    assert left is not None
    assert left.status == "queued"


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_nothing_can_be_done_with_one_that_has_ended(
    client: TestClient, post: Post, succeed: Succeed, action: str
) -> None:
    sweep = post(sparsities=[0.9])
    succeed()

    answer = client.post(f"/sweeps/{sweep['id']}/{action}")

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("wrong_status")
    assert "succeeded" in answer.json()["detail"]


def rows(sessions: sessionmaker[Session]) -> list[int | None]:
    with sessions() as session:
        return [session.scalar(select(func.count()).select_from(each)) for each in (Sweep, Job)]


def test_a_deleted_one_is_hidden_with_all_its_jobs_which_are_stopped_and_removed(
    client: TestClient,
    settings: Settings,
    sessions: sessionmaker[Session],
    post: Post,
    succeed: Succeed,
) -> None:
    sweep = post(sparsities=[0.5, 0.7, 0.9])
    succeed()
    running = claim(sessions)
    assert client.delete(f"/sweeps/{sweep['id']}").status_code == 204

    assert client.get(f"/sweeps/{sweep['id']}").status_code == 404
    assert client.delete(f"/sweeps/{sweep['id']}").status_code == 404
    assert client.get("/jobs").json()["data"] == client.get("/sweeps").json()["data"] == []
    assert job_row(sessions, running.id).cancel_requested
    leave(sessions, SUCCEED, running)
    sweeper = Sweeper(settings)
    sweeper.sweep()
    assert rows(sessions) == [0, 0]


def test_one_whose_jobs_were_all_deleted_goes_with_them(
    client: TestClient, settings: Settings, sessions: sessionmaker[Session], post: Post
) -> None:
    gone, kept = post(), post()
    for job in (*gone["jobs"], kept["jobs"][0]):
        client.delete(f"/jobs/{job['id']}")

    Sweeper(settings).sweep()

    assert rows(sessions) == [1, 1]
    assert client.get(f"/sweeps/{kept['id']}").json()["counts"] == {"queued": 1}
