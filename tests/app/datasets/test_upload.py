"""Uploading: what is taken in, what is refused, and that nothing is left of that."""

import base64
import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.tables import Dataset
from app.projects.service import NewKey
from app.settings import Settings

CSV = b"text,label\ngood,1\nbad,0\n"
HEADERS = {"Content-Type": "text/csv"}


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def stored_files(settings: Settings) -> list[Path]:
    return [path for path in settings.storage_dir.rglob("*") if path.is_file()]


def nothing_is_left(sessions: sessionmaker[Session], settings: Settings) -> bool:
    with sessions() as session:
        rows = session.scalar(select(func.count()).select_from(Dataset))
    return rows == 0 and stored_files(settings) == []


def test_a_file_is_stored_as_it_was_sent(client: TestClient, settings: Settings) -> None:
    answer = client.post("/datasets?name=reviews", content=CSV, headers=HEADERS)

    assert answer.status_code == 202
    dataset = answer.json()
    assert answer.headers["Location"] == f"/datasets/{dataset['id']}"
    assert (dataset["status"], dataset["size"]) == ("validating", len(CSV))
    assert dataset["sha256"] == hashlib.sha256(CSV).hexdigest()
    assert [path.read_bytes() for path in stored_files(settings)] == [CSV]


@pytest.mark.parametrize(
    ("media_type", "format_name"),
    [
        ("text/csv; charset=utf-8", "csv"),
        ("text/tab-separated-values", "tsv"),
        ("application/jsonl", "jsonl"),
        ("application/x-ndjson", "jsonl"),
        ("application/vnd.apache.parquet", "parquet"),
    ],
)
def test_the_content_type_says_what_the_rows_are(
    client: TestClient, media_type: str, format_name: str
) -> None:
    answer = client.post("/datasets?name=x", content=CSV, headers={"Content-Type": media_type})

    assert answer.json()["format"] == format_name


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
def test_gzip_is_known_by_its_bytes(client: TestClient, headers: dict[str, str]) -> None:
    content = gzip.compress(CSV)

    dataset = client.post("/datasets?name=x", content=content, headers=HEADERS | headers).json()

    assert (dataset["gzip"], dataset["size"]) == (True, len(content))


def test_more_than_a_piece_in_chunks_arrives_whole(client: TestClient, settings: Settings) -> None:
    def chunks() -> Iterator[bytes]:
        for number in range(50):
            yield bytes([number]) * 65_537

    dataset = client.post("/datasets?name=x", content=chunks(), headers=HEADERS).json()

    content = b"".join(chunks())
    assert dataset["sha256"] == hashlib.sha256(content).hexdigest()
    assert [path.read_bytes() for path in stored_files(settings)] == [content]


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_a_digest_that_fits_is_taken(client: TestClient, header: str) -> None:
    told = f"sha-512=:{'A' * 86}==:, {digest(CSV)}"

    answer = client.post("/datasets?name=x", content=CSV, headers={**HEADERS, header: told})

    assert answer.status_code == 202


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_of_a_body_with_another_digest_nothing_is_left(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, header: str
) -> None:
    told = digest(b"something else")

    answer = client.post("/datasets?name=x", content=CSV, headers={**HEADERS, header: told})

    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/digest_mismatch"
    assert answer.json()["field"] == header
    assert nothing_is_left(sessions, settings)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Type": "application/vnd.apache.parquet", "Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "gzip"}, 422),
        ({"Content-Digest": "sha-256=:c2hvcnQ=:"}, 422),
        ({"Content-Digest": "sha-256=none"}, 422),
    ],
)
def test_what_is_not_as_its_head_says_is_refused(
    client: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    headers: dict[str, str],
    status: int,
) -> None:
    answer = client.post("/datasets?name=x", content=CSV, headers=HEADERS | headers)

    assert answer.status_code == status
    assert answer.json()["remedy"]
    assert nothing_is_left(sessions, settings)


@pytest.mark.parametrize("name", ["", "-a", "a/b", "a b", "é", "a" * 101])
def test_a_name_that_is_no_word_is_refused(client: TestClient, name: str) -> None:
    answer = client.post("/datasets", params={"name": name}, content=CSV, headers=HEADERS)

    assert answer.status_code == 422
    assert answer.json()["field"] == "name"


def test_json_is_no_upload_and_stays_short(client: TestClient, settings: Settings) -> None:
    content = b'"' + b"x" * settings.max_body_bytes + b'"'

    answer = client.post(
        "/datasets?name=x", content=content, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 413


def test_the_same_bytes_by_the_same_name_are_the_same_dataset(client: TestClient) -> None:
    first = client.post("/datasets?name=x", content=CSV, headers=HEADERS)
    second = client.post("/datasets?name=x", content=CSV, headers=HEADERS)
    other = client.post("/datasets?name=y", content=CSV, headers=HEADERS)

    assert (first.status_code, second.status_code, other.status_code) == (202, 200, 202)
    assert second.json() == first.json()
    assert other.json()["id"] != first.json()["id"]


def test_the_same_bytes_of_another_project_are_another_dataset(
    client: TestClient, foreign_key: NewKey
) -> None:
    own = client.post("/datasets?name=x", content=CSV, headers=HEADERS)
    foreign = client.post(
        "/datasets?name=x",
        content=CSV,
        headers=HEADERS | {"Authorization": f"Bearer {foreign_key.key}"},
    )

    assert foreign.status_code == 202
    assert foreign.json()["id"] != own.json()["id"]
