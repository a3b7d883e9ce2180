"""Jobs on the page: the list, one of them, what is asked of it, and its files."""

import hashlib

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Kind
from app.jobs import moves
from app.jobs.states import FAIL
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage
from tests import artifacts
from tests.bucket import Bucket
from tests.jobs import SPEC, bring_to, claim, job_row, leave, submit

OFFERED = {
    "queued": {"pause", "cancel", "delete"},
    "running": {"pause", "cancel", "delete"},
    "paused": {"resume", "cancel", "delete"},
    "pausing": {"resume", "cancel", "delete"},
    "cancelling": {"delete"},
    "succeeded": {"delete"},
    "failed": {"retry", "delete"},
    "cancelled": {"retry", "delete"},
}


def test_the_list_shows_what_the_filters_let_through(
    user: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    mine = submit(sessions, key.project_id, spec=SPEC | {"method": "magnitude"})
    other = submit(sessions, key.project_id)

    shown = user.get("/ui/jobs?status=queued&method=magnitude&model=&sweep=").text

    assert mine in shown
    assert other not in shown


@pytest.mark.parametrize("query", ["status=none", "method=none", "cursor=none"])
def test_a_filter_that_is_none_is_refused(user: TestClient, query: str) -> None:
    assert user.get(f"/ui/jobs?{query}").status_code == 422


def test_a_long_list_goes_on_on_the_next_page(
    user: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    ids = [submit(sessions, key.project_id) for _ in range(27)]
    first = user.get("/ui/jobs?method=pst").text
    link = first.split('aria-label="Pages"')[1].split('href="')[1].split('"')[0]

    second = user.get(link.replace("&amp;", "&")).text

    assert [each for each in ids if each in second] == ids[:2]
    assert [each for each in ids if each in first] == ids[2:]


@pytest.mark.parametrize("state", OFFERED)
def test_what_is_offered_is_what_can_be_asked(
    user: TestClient, sessions: sessionmaker[Session], key: NewKey, state: str
) -> None:
    job_id = bring_to(sessions, key.project_id, state)
    url = f"/ui/jobs/{job_id}"
    shown = user.get(url).text

    offered = {
        each
        for each in ("pause", "resume", "retry", "cancel", "delete")
        if f'action="{url}/{each}"' in shown
    }
    assert offered == OFFERED[state]
    for each in sorted(offered - {"delete"})[:1]:
        assert user.post(f"{url}/{each}").status_code == 200
    assert user.post(f"{url}/delete").url.path == "/ui/jobs"
    assert user.get(url).status_code == 404


def test_an_action_that_is_too_late_is_told_of(
    user: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = bring_to(sessions, key.project_id, "succeeded")

    answer = user.post(f"/ui/jobs/{job_id}/cancel")

    assert answer.status_code == 409
    assert "The job is succeeded." in answer.text
    assert job_row(sessions, job_id).status == "succeeded"


def test_a_failure_is_shown_with_its_remedy(
    user: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    error = {"code": "disk_full", "message": "No space.", "remedy": "Make some.", "field": "x"}
    with sessions.begin() as session:
        session.get_one(Job, job.id).error = error
    assert leave(sessions, FAIL, job)

    shown = user.get(f"/ui/jobs/{job.id}").text

    for each in ("Disk full", "No space.", "Make some."):
        assert each in shown


def test_the_last_lines_of_the_log_are_shown_as_text(
    user: TestClient, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    artifacts.store(sessions, job, Kind.LOG, "log-1")
    with LocalStorage(settings.storage_dir).write(f"{job.id}/a{job.attempt}/log-1") as stored:
        stored.write(b"".join(b"line %d <b>\xff\x1b\n" % number for number in range(300)))

    shown = user.get(f"/ui/jobs/{job.id}").text

    assert "line 299 &lt;b&gt;\N{REPLACEMENT CHARACTER}\\u001b" in shown
    assert "line 100 " in shown
    assert "line 99 " not in shown


def test_a_log_that_cannot_be_read_hides_nothing_else(
    user: TestClient,
    api: FastAPI,
    bucket: Bucket,
    sessions: sessionmaker[Session],
    settings: Settings,
    key: NewKey,
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    artifacts.store(sessions, job, Kind.LOG, "log-1")
    api.state.storage = bucket.storage(settings, storage_timeout_seconds=1)
    bucket.fail("403", method="GET")

    answer = user.get(f"/ui/jobs/{job.id}")

    assert answer.status_code == 200
    assert "The log cannot be read now" in answer.text
    assert "Hyperparameters" in answer.text


def test_a_checkpoint_of_a_storage_that_is_away_is_a_503(
    user: TestClient, api: FastAPI, bucket: Bucket, settings: Settings, finished: Job
) -> None:
    api.state.storage = bucket.storage(settings, storage_timeout_seconds=1)
    bucket.fail("403")

    answer = user.get(f"/ui/jobs/{finished.id}/checkpoint")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "text/html" in answer.headers["content-type"]


def test_scores_are_those_of_the_latest_run(
    user: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    score(sessions, job, 0.123)
    assert leave(sessions, FAIL, job)
    assert "0.123" in user.get(f"/ui/jobs/{job.id}").text
    user.post(f"/ui/jobs/{job.id}/retry")
    score(sessions, claim(sessions), 0.789)

    shown = user.get(f"/ui/jobs/{job.id}").text

    assert "0.789" in shown
    assert "0.123" not in shown


def score(sessions: sessionmaker[Session], job: Job, value: float) -> None:
    data = {"stage": "main", "split": "validation", "metric": "accuracy", "value": value}
    with sessions.begin() as session:
        session.execute(moves.record(job.id, job.attempt, "evaluation", data))


def test_a_checkpoint_and_its_files_are_the_apis(
    user: TestClient, finished: Job, key: NewKey
) -> None:
    bearer = {"Authorization": f"Bearer {key.key}"}
    shown = user.get(f"/ui/jobs/{finished.id}").text
    for path in ("checkpoint?format=packed", "artifacts/packed/model.safetensors"):
        theirs = user.get(f"/jobs/{finished.id}/{path}", headers=bearer)
        ours = user.get(f"/ui/jobs/{finished.id}/{path}")

        assert ours.content == theirs.content
        assert ours.headers["content-disposition"].startswith("attachment")
        assert f"/ui/jobs/{finished.id}/{path}" in shown
    sha256 = hashlib.sha256(user.get(f"/ui/jobs/{finished.id}/checkpoint").content).hexdigest()
    assert sha256 in shown
