"""The archive's download: bytes, headers, ranges, and why there is none."""

import base64
import hashlib

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries as artifact_queries
from app.artifacts.tables import Kind
from app.ids import new_id
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from app.settings import Settings
from app.storage import LocalStorage
from tests.jobs import claim, leave

CONTENT = bytes(range(256)) * 10


@pytest.fixture
def running(client: TestClient, sessions: sessionmaker[Session], spec: dict[str, object]) -> Job:
    client.post("/jobs", json=spec)
    return claim(sessions)


@pytest.fixture
def finished(settings: Settings, sessions: sessionmaker[Session], running: Job) -> Job:
    with LocalStorage(settings.storage_dir).write("a/b.tar") as stored:
        stored.write(CONTENT)
    artifact = {
        "id": new_id("art"),
        "job_id": running.id,
        "attempt": running.attempt,
        "kind": Kind.CHECKPOINT,
        "format": "packed",
        "name": f"{running.id}-packed.tar",
        "storage_key": "a/b.tar",
    }
    with sessions.begin() as session:
        session.execute(artifact_queries.announce(artifact))
        described = {"size": stored.size, "sha256": stored.sha256, "files": []}
        session.execute(artifact_queries.describe(str(artifact["id"]), **described))
        session.execute(artifact_queries.publish(running.id, running.attempt))
    leave(sessions, SUCCEED, running)
    return running


def test_the_download_is_what_was_published(client: TestClient, finished: Job) -> None:
    answer = client.get(f"/jobs/{finished.id}/checkpoint")
    (artifact,) = client.get(f"/jobs/{finished.id}/artifacts").json()["data"]

    digest = hashlib.sha256(answer.content)
    assert answer.content == CONTENT
    assert artifact["sha256"] == digest.hexdigest()
    assert artifact["size"] == len(CONTENT)
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    encoded = base64.b64encode(digest.digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{encoded}:"
    assert f'filename="{finished.id}-packed.tar"' in answer.headers["content-disposition"]


def test_head_tells_the_same_without_the_bytes(client: TestClient, finished: Job) -> None:
    answer = client.head(f"/jobs/{finished.id}/checkpoint")

    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.content == b""


def test_a_broken_download_can_be_resumed(client: TestClient, finished: Job) -> None:
    answer = client.get(f"/jobs/{finished.id}/checkpoint", headers={"Range": "bytes=1000-"})

    assert answer.status_code == 206
    assert answer.content == CONTENT[1000:]


def test_a_range_past_the_end_is_refused(client: TestClient, finished: Job) -> None:
    answer = client.get(f"/jobs/{finished.id}/checkpoint", headers={"Range": "bytes=99999-"})

    assert answer.status_code == 416


def test_a_running_job_has_no_checkpoint_yet(client: TestClient, running: Job) -> None:
    answer = client.get(f"/jobs/{running.id}/checkpoint")

    assert answer.status_code == 409
    assert "running" in answer.json()["detail"]
    assert client.get(f"/jobs/{running.id}/artifacts").json()["data"] == []


def test_a_format_that_was_not_published_is_named(client: TestClient, finished: Job) -> None:
    answer = client.get(f"/jobs/{finished.id}/checkpoint", params={"format": "dense"})

    assert (answer.status_code, answer.json()["field"]) == (404, "format")
    assert "packed" in answer.json()["remedy"]


def test_a_lost_object_is_gone_and_not_an_empty_file(
    client: TestClient, settings: Settings, finished: Job
) -> None:
    LocalStorage(settings.storage_dir).path("a/b.tar").unlink()

    assert client.get(f"/jobs/{finished.id}/checkpoint").status_code == 410
