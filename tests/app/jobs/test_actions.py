"""POST /jobs/{id}/cancel, /pause, /resume and /retry, at each state of a job."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.states import CANCEL_RUNNING, PAUSE_RUNNING
from app.projects.service import NewKey
from tests.jobs import bring_to, claim, event_types, job_row, leave

Start = Callable[[str], str]


@pytest.fixture
def start(sessions: sessionmaker[Session], key: NewKey) -> Start:
    return lambda state: bring_to(sessions, key.project_id, state)


@pytest.mark.parametrize(
    ("action", "state", "status", "event"),
    [
        ("cancel", "queued", "cancelled", "cancelled"),
        ("cancel", "paused", "cancelled", "cancelled"),
        ("cancel", "running", "running", "cancel_requested"),
        ("cancel", "pausing", "running", "cancel_requested"),
        ("pause", "queued", "paused", "paused"),
        ("pause", "running", "running", "pause_requested"),
        ("resume", "paused", "queued", "resumed"),
        ("resume", "pausing", "running", "pause_withdrawn"),
        ("retry", "failed", "queued", "retried"),
        ("retry", "cancelled", "queued", "retried"),
    ],
)
def test_what_is_asked_happens_once_however_often_it_is_said(
    client: TestClient,
    sessions: sessionmaker[Session],
    start: Start,
    action: str,
    state: str,
    status: str,
    event: str,
) -> None:
    job_id = start(state)
    before = event_types(sessions, job_id)

    answers = [client.post(f"/jobs/{job_id}/{action}") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert answers[0].json() == answers[1].json() == client.get(f"/jobs/{job_id}").json()
    assert answers[0].json()["status"] == status
    assert event_types(sessions, job_id) == [*before, event]


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("cancel", "cancelling"),
        ("cancel", "cancelled"),
        ("pause", "pausing"),
        ("pause", "paused"),
        ("resume", "queued"),
        ("resume", "running"),
    ],
)
def test_what_is_so_already_needs_no_doing(
    client: TestClient, sessions: sessionmaker[Session], start: Start, action: str, state: str
) -> None:
    job_id = start(state)
    before = event_types(sessions, job_id)

    assert client.post(f"/jobs/{job_id}/{action}").status_code == 202
    assert event_types(sessions, job_id) == before


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("cancel", "succeeded"),
        ("cancel", "failed"),
        ("pause", "cancelling"),
        ("pause", "succeeded"),
        ("pause", "failed"),
        ("pause", "cancelled"),
        ("resume", "cancelling"),
        ("resume", "succeeded"),
        ("resume", "failed"),
        ("resume", "cancelled"),
        ("retry", "queued"),
        ("retry", "running"),
        ("retry", "pausing"),
        ("retry", "paused"),
        ("retry", "cancelling"),
        ("retry", "succeeded"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_the_state_and_changes_nothing(
    client: TestClient, sessions: sessionmaker[Session], start: Start, action: str, state: str
) -> None:
    job_id = start(state)
    before = client.get(f"/jobs/{job_id}").json(), event_types(sessions, job_id)

    problem = client.post(f"/jobs/{job_id}/{action}").json()

    named = {"pausing": "running", "cancelling": "being cancelled"}.get(state, state)
    assert (problem["status"], problem["type"]) == (409, "/problems/wrong_status")
    assert problem["detail"] == f"The job is {named}."
    assert problem["remedy"]
    assert (client.get(f"/jobs/{job_id}").json(), event_types(sessions, job_id)) == before


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_a_job_that_was_to_be_paused_and_is_being_cancelled_is_only_that(
    client: TestClient, start: Start, action: str
) -> None:
    job_id = start("pausing")
    client.post(f"/jobs/{job_id}/cancel")

    problem = client.post(f"/jobs/{job_id}/{action}").json()

    assert problem["detail"] == "The job is being cancelled."


def test_a_retried_job_that_is_being_cancelled_cannot_be_retried_yet(
    client: TestClient, sessions: sessionmaker[Session], start: Start
) -> None:
    job_id = start("failed")
    client.post(f"/jobs/{job_id}/retry")
    claim(sessions)
    client.post(f"/jobs/{job_id}/cancel")

    problem = client.post(f"/jobs/{job_id}/retry").json()

    assert problem["detail"] == "The job is being cancelled."


def test_cancelling_shows_at_once_and_ends_when_the_worker_has_stopped(
    client: TestClient, sessions: sessionmaker[Session], start: Start
) -> None:
    job_id = start("queued")
    job = claim(sessions)

    asked = client.post(f"/jobs/{job_id}/cancel").json()
    leave(sessions, CANCEL_RUNNING, job)

    ended = client.get(f"/jobs/{job_id}").json()
    assert (asked["status"], asked["cancel_requested"]) == ("running", True)
    assert (ended["status"], ended["phase"]) == ("cancelled", None)
    assert ended["finished_at"]


def test_pausing_shows_at_once_and_ends_when_the_worker_has_stopped(
    client: TestClient, sessions: sessionmaker[Session], start: Start
) -> None:
    job_id = start("queued")
    job = claim(sessions)

    asked = client.post(f"/jobs/{job_id}/pause").json()
    leave(sessions, PAUSE_RUNNING, job)

    paused = client.get(f"/jobs/{job_id}").json()
    assert (asked["status"], asked["pause_requested"]) == ("running", True)
    assert (paused["status"], paused["pause_requested"]) == ("paused", False)
    assert paused["finished_at"] is None


def test_a_resumed_job_goes_on_in_its_run(
    client: TestClient, sessions: sessionmaker[Session], start: Start
) -> None:
    job_id = start("queued")
    job = claim(sessions)
    client.post(f"/jobs/{job_id}/pause")
    leave(sessions, PAUSE_RUNNING, job)
    client.post(f"/jobs/{job_id}/resume")

    again = claim(sessions)

    assert (again.run, again.attempt) == (1, 2)
    assert again.started_at == job.started_at
    assert again.ran_seconds > 0


def test_a_retry_is_another_run_of_which_nothing_is_known_and_attempts_count_on(
    client: TestClient, sessions: sessionmaker[Session], start: Start
) -> None:
    job_id = start("failed")

    job = client.post(f"/jobs/{job_id}/retry").json()

    assert (job["run"], job["attempt"]) == (2, 1)
    shown = (job["started_at"], job["finished_at"], job["error"], job["progress"])
    assert shown == (None, None, None, None)
    row = job_row(sessions, job_id)
    assert (row.lost_attempts, row.failed_attempts, row.ran_seconds) == (0, 0, 0)
    assert claim(sessions).attempt == 2


def test_a_cancel_is_forgotten_by_the_retry(
    client: TestClient, sessions: sessionmaker[Session], start: Start
) -> None:
    job_id = start("queued")
    job = claim(sessions)
    client.post(f"/jobs/{job_id}/cancel")
    leave(sessions, CANCEL_RUNNING, job)

    assert not client.post(f"/jobs/{job_id}/retry").json()["cancel_requested"]
