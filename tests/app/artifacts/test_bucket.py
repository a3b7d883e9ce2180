"""Downloads where the bytes lie in a bucket: archives from there, single files through the API."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

import app.main
from app.artifacts.tables import Artifact
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import open_storage
from pst_core.download import fetch
from tests.app.served import serve
from tests.bucket import SECRET, Bucket


@pytest.fixture
def settings(settings: Settings, bucket: Bucket) -> Settings:
    """Of an installation whose storage is the bucket."""
    return bucket.settings(settings, storage_timeout_seconds=1)


@pytest.fixture
def artifact(sessions: sessionmaker[Session], finished: Job) -> Artifact:
    with sessions() as session:
        query = select(Artifact).where(Artifact.job_id == finished.id, Artifact.format == "packed")
        return session.scalars(query).one()


@pytest.fixture
def content(settings: Settings, artifact: Artifact) -> bytes:
    return b"".join(open_storage(settings).read(artifact.storage_key, 0, artifact.size or 0))


@pytest.fixture
def url(artifact: Artifact) -> str:
    return f"/jobs/{artifact.job_id}/checkpoint"


@pytest.fixture
def through(settings: Settings, key: NewKey) -> Iterator[TestClient]:
    """A client of an API that sends all bytes itself."""
    own = settings.model_copy(update={"storage_redirect": False})
    with TestClient(app.main.create_app(own), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {key.key}"
        yield client


def test_the_archive_comes_from_the_bucket(
    client: TestClient, url: str, artifact: Artifact, content: bytes
) -> None:
    answer = client.get(url, follow_redirects=False)

    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["x-linked-etag"] == f'"{artifact.sha256}"'
    assert answer.headers["x-linked-size"] == str(artifact.size)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert answer.headers["cache-control"] == "no-store"
    assert SECRET not in answer.headers["location"]
    # As the bucket is: without any key of ours.
    sent = httpx.get(answer.headers["location"], trust_env=False)
    assert (sent.status_code, sent.content) == (200, content)
    assert artifact.name in sent.headers["content-disposition"]
    part = httpx.get(answer.headers["location"], headers={"Range": "bytes=100-"}, trust_env=False)
    assert (part.status_code, part.content) == (206, content[100:])


def test_head_is_answered_here(client: TestClient, url: str, artifact: Artifact) -> None:
    head = client.head(url, follow_redirects=False)

    assert head.status_code == 200
    assert head.headers["etag"] == f'"{artifact.sha256}"'
    assert head.headers["content-length"] == str(artifact.size)


def test_a_single_file_comes_through_the_api(
    client: TestClient, artifact: Artifact, checkpoints: dict[str, Path]
) -> None:
    expected = (checkpoints["packed"] / "model.safetensors").read_bytes()
    path = f"/jobs/{artifact.job_id}/artifacts/packed/model.safetensors"

    whole = client.get(path, follow_redirects=False)
    part = client.get(path, headers={"Range": "bytes=5-9"}, follow_redirects=False)

    assert (whole.status_code, whole.content) == (200, expected)
    assert (part.status_code, part.content) == (206, expected[5:10])


def test_what_a_client_has_is_not_sent_again(
    client: TestClient, url: str, artifact: Artifact, content: bytes
) -> None:
    tag = f'"{artifact.sha256}"'

    known = client.get(url, headers={"If-None-Match": tag}, follow_redirects=False)
    # The bucket has tags of its own: it would start again, or refuse.
    resumed = client.get(
        url, headers={"If-Range": tag, "Range": "bytes=7-"}, follow_redirects=False
    )
    meant = client.get(url, headers={"If-Match": tag}, follow_redirects=False)
    beyond = client.get(url, headers={"Range": "bytes=9999999-"}, follow_redirects=False)

    assert known.status_code == 304
    assert (resumed.status_code, resumed.content) == (206, content[7:])
    assert (meant.status_code, meant.content) == (200, content)
    assert beyond.status_code == 416


def test_the_api_sends_all_where_clients_cannot_reach_the_bucket(
    through: TestClient, url: str, content: bytes
) -> None:
    answer = through.get(url, follow_redirects=False)

    assert (answer.status_code, answer.content) == (200, content)


def test_a_lost_object_is_gone(
    client: TestClient, url: str, settings: Settings, artifact: Artifact
) -> None:
    open_storage(settings).remove(artifact.storage_key)

    assert client.get(url, follow_redirects=False).status_code == 410
    assert client.head(url, follow_redirects=False).status_code == 410


def test_without_its_bucket_nothing_is_gone_but_the_storage_is_away(
    settings: Settings, url: str, key: NewKey
) -> None:
    own = settings.model_copy(update={"storage_url": "s3://no-such-bucket"})
    headers = {"Authorization": f"Bearer {key.key}"}
    with TestClient(app.main.create_app(own), headers=headers) as client:
        answer = client.get(url, follow_redirects=False)

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/storage_unavailable")


def test_an_object_of_other_bytes_is_not_sent(
    client: TestClient, url: str, settings: Settings, artifact: Artifact, bucket: Bucket
) -> None:
    bucket.overwrite(settings, artifact.storage_key, bytes(artifact.size or 0))

    answer = client.get(url, follow_redirects=False)

    assert answer.status_code == 502
    assert answer.json()["type"] == "/problems/checkpoint_corrupt"


def test_a_bucket_that_does_not_answer_is_told(
    client: TestClient, url: str, bucket: Bucket
) -> None:
    bucket.fail("503")

    answer = client.get(url, follow_redirects=False)
    hub = client.get(f"/hf{url.removesuffix('/checkpoint')}/resolve/main/config.json")

    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/storage_unavailable"
    assert "retry-after" in answer.headers
    assert (hub.status_code, set(hub.json())) == (503, {"error"})


def test_the_library_follows_and_keeps_the_key_to_itself(
    settings: Settings,
    url: str,
    key: NewKey,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PST_API_KEY", key.key)
    sent: list[httpx.Request] = []
    send = httpx.Client._send_single_request

    def note(client: httpx.Client, request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return send(client, request)

    monkeypatch.setattr(httpx.Client, "_send_single_request", note)
    (tmp_path / "got").mkdir()
    with serve(app.main.create_app(settings)) as served:
        folder = fetch(served.url + url, tmp_path / "got")

    assert (folder / "config.json").read_bytes() == (
        checkpoints["packed"] / "config.json"
    ).read_bytes()
    first, second = sent
    assert key.key in first.headers["authorization"]
    assert "authorization" not in second.headers
