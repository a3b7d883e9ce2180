"""DELETE /jobs/{id}: hidden at once, stopped where it runs, and for its owner gone for good."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.states import CANCEL_RUNNING, REQUEUE, SUCCEED
from app.projects.service import NewKey
from tests.jobs import bring_to, claim, event_types, job_row, leave, let_pass, submit, sweep

CALLS = [
    ("GET", "/jobs/{id}"),
    ("DELETE", "/jobs/{id}"),
    ("POST", "/jobs/{id}/cancel"),
    ("POST", "/jobs/{id}/pause"),
    ("POST", "/jobs/{id}/resume"),
    ("POST", "/jobs/{id}/retry"),
    ("GET", "/jobs/{id}/events"),
    ("GET", "/jobs/{id}/metrics"),
    ("GET", "/jobs/{id}/logs"),
    ("GET", "/jobs/{id}/artifacts"),
    ("GET", "/jobs/{id}/checkpoint"),
    ("HEAD", "/jobs/{id}/checkpoint"),
]


@pytest.mark.parametrize(
    ("state", "status", "more"),
    [
        ("queued", "cancelled", ["deleted", "cancelled"]),
        ("paused", "cancelled", ["deleted", "cancelled"]),
        ("running", "running", ["deleted"]),
        ("pausing", "running", ["deleted"]),
        ("cancelling", "running", ["deleted"]),
        ("succeeded", "succeeded", ["deleted"]),
        ("failed", "failed", ["deleted"]),
        ("cancelled", "cancelled", ["deleted"]),
    ],
)
def test_a_deleted_job_waits_no_more_and_keeps_what_became_of_it(
    client: TestClient,
    sessions: sessionmaker[Session],
    key: NewKey,
    state: str,
    status: str,
    more: list[str],
) -> None:
    job_id = bring_to(sessions, key.project_id, state)
    before = event_types(sessions, job_id)

    answer = client.delete(f"/jobs/{job_id}")

    assert (answer.status_code, answer.content) == (204, b"")
    job = job_row(sessions, job_id)
    assert job.deleted_at is not None
    assert (job.status, job.cancel_requested) == (status, status == "running")
    assert event_types(sessions, job_id) == [*before, *more]


def test_a_deleted_job_answers_every_call_like_one_that_never_was(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = bring_to(sessions, key.project_id, "failed")
    client.delete(f"/jobs/{job_id}")

    assert_unknown(client, job_id)


def test_another_projects_job_answers_every_call_like_one_that_never_was(
    client: TestClient, sessions: sessionmaker[Session], foreign_key: NewKey
) -> None:
    job_id = submit(sessions, foreign_key.project_id)

    assert_unknown(client, job_id)
    assert event_types(sessions, job_id) == ["queued"]


def assert_unknown(client: TestClient, job_id: str) -> None:
    headers = {"X-Request-ID": "the-same"}
    for method, path in CALLS:
        answer = client.request(method, path.format(id=job_id), headers=headers)
        absent = client.request(method, path.format(id="job_0"), headers=headers)

        assert answer.status_code == absent.status_code == 404, path
        assert answer.content == absent.content, path


def test_no_list_shows_a_deleted_job(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    kept, deleted = (submit(sessions, key.project_id) for _ in range(2))
    client.delete(f"/jobs/{deleted}")

    assert [job["id"] for job in client.get("/jobs").json()["data"]] == [kept]
    assert client.get("/jobs", params={"status": "cancelled"}).json()["data"] == []


def test_the_worker_of_a_deleted_job_can_only_cancel_it(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    client.delete(f"/jobs/{job.id}")

    left = leave(sessions, SUCCEED, job)

    assert left is not None
    assert left.status == "cancelled"
    assert event_types(sessions, job.id) == ["queued", "started", "deleted", "cancelled"]


def test_a_deleted_job_whose_worker_is_lost_is_cancelled_and_not_tried_again(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    client.delete(f"/jobs/{job.id}")
    let_pass(sessions, job.id, 3600)

    assert sweep(sessions, REQUEUE) == []
    assert sweep(sessions, CANCEL_RUNNING) == [job.id]
