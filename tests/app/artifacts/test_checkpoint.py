"""The archive's download: bytes, headers, ranges, and why there is none."""

import base64
import hashlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.answers import comparable
from tests.published import stored_path


@pytest.fixture
def stored(settings: Settings, sessions: sessionmaker[Session], finished: Job) -> Path:
    """Where the bytes of the packed checkpoint lie."""
    return stored_path(sessions, settings, finished, "packed")


@pytest.fixture
def url(finished: Job) -> str:
    return f"/jobs/{finished.id}/checkpoint"


def test_the_download_is_what_was_published(
    client: TestClient, finished: Job, url: str, stored: Path
) -> None:
    answer = client.get(url)
    listed = client.get(f"/jobs/{finished.id}/artifacts").json()["data"]
    (artifact,) = (each for each in listed if each["format"] == "packed")

    digest = hashlib.sha256(answer.content)
    assert answer.content == stored.read_bytes()
    assert artifact["sha256"] == digest.hexdigest()
    assert artifact["size"] == len(answer.content)
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    encoded = base64.b64encode(digest.digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{encoded}:"
    assert answer.headers["content-type"] == "application/x-tar"
    name = f'attachment; filename="{finished.id}-packed.tar"'
    assert answer.headers["content-disposition"] == name


def test_head_tells_the_same_without_the_bytes(client: TestClient, url: str) -> None:
    head, whole = client.head(url), client.get(url)

    assert (head.status_code, head.content) == (200, b"")
    head.headers.pop("x-request-id")
    whole.headers.pop("x-request-id")
    assert comparable(head.headers) == comparable(whole.headers)


def test_a_broken_download_can_be_resumed(client: TestClient, url: str, stored: Path) -> None:
    content = stored.read_bytes()

    answer = client.get(url, headers={"Range": "bytes=1000-"})

    assert answer.status_code == 206
    assert answer.content == content[1000:]
    size = len(content)
    assert answer.headers["content-range"] == f"bytes 1000-{size - 1}/{size}"
    assert answer.headers["content-length"] == str(size - 1000)


def test_a_range_past_the_end_is_refused_with_the_size(
    client: TestClient, url: str, stored: Path
) -> None:
    answer = client.get(url, headers={"Range": "bytes=999999-"})

    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{stored.stat().st_size}"
    assert answer.json()["type"] == "/problems/range_not_satisfiable"


def test_a_client_that_has_it_is_told_so(client: TestClient, url: str) -> None:
    tag = client.head(url).headers["etag"]

    answer = client.get(url, headers={"If-None-Match": tag})

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag


def test_a_resumed_download_of_another_file_starts_again(
    client: TestClient, url: str, stored: Path
) -> None:
    answer = client.get(url, headers={"Range": "bytes=5-", "If-Range": '"another"'})

    assert answer.status_code == 200
    assert answer.content == stored.read_bytes()


def test_a_file_that_is_not_the_one_meant_is_not_sent(client: TestClient, url: str) -> None:
    assert client.get(url, headers={"If-Match": '"another"'}).status_code == 412


def test_a_running_job_has_no_checkpoint_yet(client: TestClient, running: Job) -> None:
    answer = client.get(f"/jobs/{running.id}/checkpoint")

    assert answer.status_code == 409
    assert "running" in answer.json()["detail"]
    assert client.get(f"/jobs/{running.id}/artifacts").json()["data"] == []


def test_a_format_that_was_not_published_is_named(client: TestClient, url: str) -> None:
    answer = client.get(url, params={"format": "onnx"})

    assert (answer.status_code, answer.json()["field"]) == (404, "format")
    assert "packed" in answer.json()["remedy"]


def test_a_lost_object_is_gone_and_not_an_empty_file(
    client: TestClient, url: str, stored: Path
) -> None:
    stored.unlink()

    assert client.get(url).status_code == 410
    assert client.head(url).status_code == 410


def test_an_object_of_another_length_is_not_sent(
    client: TestClient, url: str, stored: Path
) -> None:
    assert client.get(url).status_code == 200
    with stored.open("ab") as file:
        file.write(b"more")

    answer = client.get(url)

    assert answer.status_code == 502
    assert answer.json()["type"] == "/problems/checkpoint_corrupt"
    assert client.head(url).status_code == 502


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}], ids=["whole", "range"])
def test_an_object_of_other_bytes_is_not_sent(
    client: TestClient, url: str, stored: Path, headers: dict[str, str]
) -> None:
    assert client.get(url, headers=headers).status_code in (200, 206)
    _flip(stored, -1)

    assert client.get(url, headers=headers).status_code == 502


def test_a_link_in_the_storage_is_not_followed(
    client: TestClient, url: str, stored: Path, tmp_path: Path
) -> None:
    stored.rename(tmp_path / "elsewhere")
    stored.symlink_to(tmp_path / "elsewhere")

    assert client.get(url).status_code == 502


def test_another_projects_checkpoint_looks_like_none(
    client: TestClient, finished: Job, url: str, foreign_key: NewKey
) -> None:
    foreign = {"Authorization": f"Bearer {foreign_key.key}", "X-Request-ID": "same"}
    unknown = url.replace(finished.id, "job_0")

    for path in (url, f"/jobs/{finished.id}/artifacts", f"/jobs/{finished.id}/artifacts/packed/x"):
        for conditions in ({}, {"Range": "bytes=0-"}, {"If-None-Match": "*"}):
            answer = client.get(path, headers=foreign | conditions)
            assert answer.status_code == 404
            assert answer.content == client.get(unknown, headers=foreign).content


def _flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
