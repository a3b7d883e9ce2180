"""GET /jobs/{id}/logs: what the trainers printed, put together from its parts; and followed."""

from collections.abc import Iterator
from typing import cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import logs
from app.artifacts.tables import Artifact, Kind
from app.jobs.states import REQUEUE, SUCCEED
from app.jobs.tables import Job
from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage, Storage
from tests.app.served import serve
from tests.artifacts import announce, retire, store
from tests.bucket import Bucket
from tests.jobs import claim, leave, submit


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


def write(sessions: sessionmaker[Session], settings: Settings, name: str, content: bytes) -> None:
    with sessions() as session:
        key = session.scalars(select(Artifact.storage_key).where(Artifact.name == name)).one()
    with LocalStorage(settings.storage_dir).write(key) as target:
        target.write(content)


def test_a_job_that_has_printed_nothing_has_an_empty_log(client: TestClient, job: Job) -> None:
    answer = client.get(f"/jobs/{job.id}/logs")

    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_parts_of_all_attempts_come_in_the_order_they_were_printed(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job
) -> None:
    for name in ("log-2", "log-1"):
        store(sessions, job, Kind.LOG, name)
    leave(sessions, REQUEUE, job)
    store(sessions, claim(sessions), Kind.LOG, "log-0")
    for name, content in (("log-0", b"third\n"), ("log-1", b"f\xffirst\n"), ("log-2", b"second\n")):
        write(sessions, settings, name, content)

    assert client.get(f"/jobs/{job.id}/logs").content == b"f\xffirst\nsecond\nthird\n"


def test_only_what_was_printed_and_is_kept_is_shown(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job
) -> None:
    store(sessions, job, Kind.SNAPSHOT, "snapshot")
    announce(sessions, job, Kind.LOG, "in flight")
    store(sessions, job, Kind.LOG, "given up")
    store(sessions, job, Kind.LOG, "log")
    for name in ("snapshot", "in flight", "given up", "log"):
        write(sessions, settings, name, name.encode())
    retire(sessions, Artifact.name == "given up")

    assert client.get(f"/jobs/{job.id}/logs").text == "log"


def test_a_part_that_is_gone_leaves_the_others_readable(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job
) -> None:
    store(sessions, job, Kind.LOG, "log-1")
    store(sessions, job, Kind.LOG, "log-2")
    write(sessions, settings, "log-2", b"second")

    assert client.get(f"/jobs/{job.id}/logs").text == "second"


@pytest.fixture
def log(sessions: sessionmaker[Session], settings: Settings, job: Job) -> str:
    """Where a log is that has three lines in two parts."""
    for name, content in (("log-1", b"one\ntw"), ("log-2", b"o\nthree\n")):
        store(sessions, job, Kind.LOG, name)
        write(sessions, settings, name, content)
    return f"/jobs/{job.id}/logs"


@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("4-7", 4, 8), ("0-0", 0, 1), ("6-", 6, 14), ("-3", 11, 14)]
)
def test_a_range_goes_over_the_parts(
    client: TestClient, log: str, asked: str, start: int, stop: int
) -> None:
    answer = client.get(log, headers={"Range": f"bytes={asked}"})

    assert (answer.status_code, answer.content) == (206, b"one\ntwo\nthree\n"[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/14"


def test_a_range_behind_the_end_is_refused(client: TestClient, log: str) -> None:
    answer = client.get(log, headers={"Range": "bytes=14-"})

    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */14")


def test_what_was_not_added_to_is_not_sent_again(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job, log: str
) -> None:
    known = {"If-None-Match": client.get(log).headers["etag"]}
    assert client.get(log, headers=known).status_code == 304

    store(sessions, job, Kind.LOG, "log-3")
    write(sessions, settings, "log-3", b"four\n")

    assert client.get(log, headers=known).text == "one\ntwo\nthree\nfour\n"


def test_head_tells_how_long_it_is(client: TestClient, log: str) -> None:
    answer = client.head(log)

    assert (answer.status_code, answer.headers["content-length"]) == (200, "14")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (0, ""),
        (1, "three\n"),
        (2, "two\nthree\n"),
        (3, "one\ntwo\nthree\n"),
        (9, "one\ntwo\nthree\n"),
    ],
)
def test_only_the_last_lines_come_where_so_many_are_asked_for(
    client: TestClient, log: str, monkeypatch: pytest.MonkeyPatch, lines: int, text: str
) -> None:
    monkeypatch.setattr(logs, "CHUNK", 5)

    assert client.get(log, params={"tail": lines}).text == text


def test_a_last_line_without_an_end_is_one(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, job: Job
) -> None:
    store(sessions, job, Kind.LOG, "log-1")
    write(sessions, settings, "log-1", b"one\ntwo")

    assert client.get(f"/jobs/{job.id}/logs", params={"tail": 1}).text == "two"


@pytest.fixture
def following(
    settings: Settings, key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    monkeypatch.setattr(logs, "LOOK_SECONDS", 0.05)
    quick = settings.model_copy(update={"stream_poll_seconds": 0.05})
    headers = {"Authorization": f"Bearer {key.key}"}
    with (
        serve(create_app(quick)) as served,
        httpx.Client(base_url=served.url, headers=headers, timeout=30, trust_env=False) as client,
    ):
        yield client


def take(texts: Iterator[str], size: int) -> str:
    text = ""
    while len(text) < size:
        text += next(texts)
    return text


@pytest.mark.parametrize(("asked", "first"), [({}, "one\ntwo\nthree\n"), ({"tail": 1}, "three\n")])
def test_a_log_is_followed_until_its_job_has_ended(
    following: httpx.Client,
    sessions: sessionmaker[Session],
    settings: Settings,
    job: Job,
    log: str,
    asked: dict[str, int],
    first: str,
) -> None:
    with following.stream("GET", log, params={"follow": True, **asked}) as answer:
        texts = answer.iter_text()
        assert take(texts, len(first)) == first
        store(sessions, job, Kind.LOG, "log-3")
        write(sessions, settings, "log-3", b"four\n")
        assert take(texts, 5) == "four\n"
        store(sessions, job, Kind.LOG, "log-4")
        write(sessions, settings, "log-4", b"five\n")
        leave(sessions, SUCCEED, job)
        assert "".join(texts) == "five\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


class Counting:
    """A bucket as a log meets it: it believes that each part is there, and each read costs."""

    def __init__(self, parts: dict[str, bytes]) -> None:
        self.parts, self.asked = parts, list[str]()

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        self.asked.append(key)
        if not self.parts[key]:
            raise FileNotFoundError(key)
        yield self.parts[key][start:stop]


def log_of(parts: dict[str, bytes]) -> tuple[logs.Log, Counting]:
    storage = Counting(parts)
    sizes = tuple((key, key, len(part) or 7) for key, part in parts.items())
    return logs.Log(cast("Storage", storage), sizes), storage


PARTS = {"1": b"one\ntw", "2": b"", "3": b"o\nthree\n", "4": b""}


@pytest.mark.parametrize(("lines", "text"), [(1, b"three\n"), (2, b"two\nthree\n")])
def test_of_a_part_that_turns_out_to_be_gone_nothing_is_shown(lines: int, text: bytes) -> None:
    log, _ = log_of(PARTS)

    assert log.last_text(lines, 100) == text
    assert b"".join(log.read(log.last_lines(lines), log.size)) == text
    assert b"".join(log.read(0, log.size)) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("lines", "most_bytes", "read"), [(2, 100, 3), (100, 6, 2), (1000, 999, 50)]
)
def test_no_more_parts_are_read_than_the_last_lines_are_in(
    lines: int, most_bytes: int, read: int
) -> None:
    log, storage = log_of({str(number): b"abc\n" for number in range(50)})

    text = log.last_text(lines, most_bytes)

    assert text == (b"abc\n" * 50)[-min(4 * lines, most_bytes) :]
    assert len(storage.asked) == read


def test_a_log_whose_storage_is_away_is_a_503(
    client: TestClient,
    api: FastAPI,
    bucket: Bucket,
    settings: Settings,
    log: str,
) -> None:
    api.state.storage = bucket.storage(settings, storage_timeout_seconds=1)
    bucket.fail("403", method="GET")

    assert client.get(log).status_code == 503
