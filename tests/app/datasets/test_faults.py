"""Uploads that go wrong over real sockets, and quotas that hold whatever happens."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.tables import Dataset
from app.main import create_app
from app.projects.service import NewKey
from app.projects.tables import Project
from app.settings import Settings
from tests.app.served import Served, serve

ROOM = 100_000  # bytes that the project may store
PATIENCE = 30.0
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def deadline() -> float:
    """For which nothing of a body may be missing."""
    return PATIENCE


@pytest.fixture
def api(settings: Settings, deadline: float) -> FastAPI:
    changes = {"max_stored_bytes": ROOM, "body_seconds": deadline, "max_upload_bytes": 10 * ROOM}
    return create_app(settings.model_copy(update=changes))


@pytest.fixture
def uploading(api: FastAPI) -> Iterator[Served]:
    with serve(api) as served:
        yield served


@pytest.fixture
def client(uploading: Served, key: NewKey) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key.key}", **CSV}
    with httpx.Client(base_url=uploading.url, headers=headers, timeout=PATIENCE) as client:
        yield client


def begin(uploading: Served, key: NewKey, *headers: str, body: bytes = b"") -> socket.socket:
    host, port = uploading.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    head = ["POST /datasets?name=x HTTP/1.1", "Host: x", f"Authorization: Bearer {key.key}"]
    head += ["Content-Type: text/csv", *headers]
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    return connection


def wait_for(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up_at


def rows(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Dataset)) or 0


def charged(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return int(session.scalar(select(func.coalesce(func.sum(Dataset.charged_bytes), 0))) or 0)


def files(settings: Settings) -> list[Path]:
    return [path for path in settings.storage_dir.rglob("*") if path.is_file()]


@pytest.mark.parametrize("length", [f"Content-Length: {ROOM}", "Transfer-Encoding: chunked"])
def test_of_a_client_that_dies_at_90_percent_nothing_is_left(
    uploading: Served,
    key: NewKey,
    sessions: sessionmaker[Session],
    settings: Settings,
    length: str,
) -> None:
    sent = b"x" * (ROOM * 9 // 10)
    body = sent if "Length" in length else b"%x\r\n" % len(sent) + sent + b"\r\n"
    with begin(uploading, key, length, body=body):
        wait_for(lambda: rows(sessions) == 1)

    wait_for(lambda: rows(sessions) == 0)
    assert files(settings) == []


def test_others_are_answered_and_hold_connections_while_a_body_arrives(
    uploading: Served, key: NewKey, client: httpx.Client, sessions: sessionmaker[Session]
) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(20):  # more than the database's pool has
            open_ones.enter_context(begin(uploading, key, "Content-Length: 100", body=b"a,b\n"))
        wait_for(lambda: rows(sessions) == 20)

        assert client.get("/jobs").status_code == 200


@pytest.mark.parametrize("deadline", [1.0])
def test_one_that_trickles_in_is_cut_off_and_nothing_is_left(
    uploading: Served, key: NewKey, sessions: sessionmaker[Session], settings: Settings
) -> None:
    before = time.monotonic()
    with begin(uploading, key, "Content-Length: 50000") as connection:
        connection.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - before < PATIENCE:
            with contextlib.suppress(TimeoutError):
                connection.sendall(b"x")
                answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 408")
    wait_for(lambda: rows(sessions) == 0)
    assert files(settings) == []


def test_the_quota_is_refused_before_a_byte_is_read(
    client: httpx.Client, sessions: sessionmaker[Session]
) -> None:
    answer = client.post("/datasets?name=x", content=b"x" * (ROOM + 1))

    assert answer.status_code == 429
    assert answer.json()["type"] == "/problems/quota_exceeded"
    assert rows(sessions) == 0


def chunks(size: int) -> Iterator[bytes]:
    for start in range(0, size, 1000):
        yield b"x" * min(1000, size - start)


@pytest.mark.parametrize(("size", "status"), [(ROOM, 202), (ROOM + 1, 429)])
def test_without_a_length_the_quota_holds_to_the_last_byte(
    client: httpx.Client,
    sessions: sessionmaker[Session],
    settings: Settings,
    size: int,
    status: int,
) -> None:
    answer = client.post("/datasets?name=x", content=chunks(size))

    assert answer.status_code == status
    assert charged(sessions) == (size if status == 202 else 0)
    assert sum(path.stat().st_size for path in files(settings)) == charged(sessions)


def test_uploads_at_once_never_store_more_than_the_quota(
    client: httpx.Client, sessions: sessionmaker[Session], settings: Settings
) -> None:
    statuses: list[int] = []
    barrier = threading.Barrier(6)

    def upload(number: int) -> None:
        content = bytes([65 + number]) * (ROOM * 2 // 5)
        barrier.wait()
        statuses.append(client.post(f"/datasets?name=x{number}", content=content).status_code)

    together([threading.Thread(target=upload, args=(number,)) for number in range(6)])

    assert sorted(statuses) == [202, 202, 429, 429, 429, 429]
    assert sum(path.stat().st_size for path in files(settings)) == charged(sessions)


def test_of_the_same_bytes_sent_at_once_one_dataset_comes(
    client: httpx.Client, sessions: sessionmaker[Session]
) -> None:
    answers: list[httpx.Response] = []
    barrier = threading.Barrier(6)

    def upload() -> None:
        barrier.wait()
        answers.append(client.post("/datasets?name=x", content=b"a,b\n1,2\n"))

    together([threading.Thread(target=upload) for _ in range(6)])

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert charged(sessions) == len(b"a,b\n1,2\n")


def together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_declared_length_over_the_bound_is_refused_before_a_byte_is_read(
    uploading: Served, key: NewKey
) -> None:
    with begin(uploading, key, f"Content-Length: {10 * ROOM + 1}") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_one_without_a_length_is_cut_off_at_the_bound(
    client: httpx.Client, engine: Engine, settings: Settings
) -> None:
    with engine.begin() as connection:
        connection.execute(update(Project).values(max_stored_bytes=2**40))

    answer = client.post("/datasets?name=x", content=chunks(10 * ROOM + 1))

    assert answer.status_code == 413
    assert files(settings) == []


def test_what_was_deleted_while_it_arrived_is_not_stored(
    uploading: Served,
    key: NewKey,
    client: httpx.Client,
    sessions: sessionmaker[Session],
) -> None:
    with begin(uploading, key, "Content-Length: 8", body=b"a,b\n") as connection:
        wait_for(lambda: rows(sessions) == 1)
        (dataset,) = client.get("/datasets").json()["data"]
        assert client.delete(f"/datasets/{dataset['id']}").status_code == 204
        connection.sendall(b"1,2\n")

        assert connection.recv(65536).startswith(b"HTTP/1.1 409")
    assert client.get("/datasets").json()["data"] == []
