"""Events as a stream, over a real socket: what a client of another make sees of them."""

import asyncio
import json
import random
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent
from sqlalchemy import Engine, delete, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.states import FAIL, SUCCEED
from app.jobs.tables import Job
from app.main import create_app
from app.projects.service import NewKey
from app.projects.tables import ApiKey
from app.settings import Settings
from app.streams.feeds import Feeds
from tests.app.served import Served, serve
from tests.jobs import bring_to, claim, leave, submit

NASTY = 'CR\r LF\n two\n\ndata: {"seq": 9}\n\nid: 7\r\nevent: x \x1b[31m\u202e\u2028\x85 🤖 "}'

# Made once: reading certificates takes longer than all else, and nobody uses them here.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update={"stream_poll_seconds": 0.05})


@pytest.fixture
def served(quick: Settings) -> Iterator[Served]:
    with serve(create_app(quick)) as served:
        yield served


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


def record(sessions: sessionmaker[Session], job: Job, *texts: str) -> None:
    for each in texts:
        with sessions.begin() as session:
            session.scalars(moves.record(job.id, job.attempt, "phase", {"phase": each})).one()


@contextmanager
def watching(
    served: Served, key: NewKey, job_id: str, last: str | None = None
) -> Iterator[httpx.Response]:
    headers = {"Authorization": f"Bearer {key.key}", "Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = last
    url = f"{served.url}/jobs/{job_id}/events"
    with (
        httpx.Client(timeout=30, trust_env=False, verify=NO_TLS) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        yield answer


def numbers(events: list[ServerSentEvent]) -> list[int]:
    return [int(event.id) for event in events]


def read(answer: httpx.Response, count: int | None = None) -> list[ServerSentEvent]:
    """So many events, after which the connection is closed, or all until the stream ends."""
    events = []
    for event in EventSource(answer).iter_sse():
        events.append(event)
        if len(events) == count:
            break
    return events


def follow(served: Served, key: NewKey, job_id: str) -> list[ServerSentEvent]:
    with watching(served, key, job_id) as answer:
        return read(answer)


def test_a_stream_tells_what_happened_and_what_happens_and_ends_with_the_job(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    with watching(served, key, job.id) as answer:
        source = EventSource(answer).iter_sse()
        before = [next(source), next(source)]
        record(sessions, job, "training")
        during = next(source)
        leave(sessions, SUCCEED, job)
        after = list(source)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [event.event for event in [*before, during, *after]] == [
        "queued",
        "started",
        "phase",
        "succeeded",
    ]
    assert [event.id for event in [*before, during, *after]] == ["1", "2", "3", "4"]
    assert (during.json()["seq"], during.json()["data"]) == (3, {"phase": "training"})
    assert before[0].retry is not None


def test_a_stream_and_a_page_say_the_same(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    leave(sessions, FAIL, job)

    streamed = [json.loads(event.data) for event in follow(served, key, job.id)]
    headers = {"Authorization": f"Bearer {key.key}"}
    page = httpx.get(f"{served.url}/jobs/{job.id}/events", headers=headers, trust_env=False)

    assert streamed == page.json()["data"]


def test_a_long_history_comes_whole(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    record(sessions, job, *map(str, range(250)))
    leave(sessions, SUCCEED, job)

    assert numbers(follow(served, key, job.id)) == list(range(1, 254))


def test_text_of_others_is_data_and_nothing_else(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    record(sessions, job, NASTY, NASTY[::-1])
    leave(sessions, SUCCEED, job)

    events = follow(served, key, job.id)

    assert [event.event for event in events] == ["queued", "started", "phase", "phase", "succeeded"]
    assert [event.json()["data"]["phase"] for event in events[2:4]] == [NASTY, NASTY[::-1]]


def test_a_client_goes_on_behind_the_last_event_it_has(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    record(sessions, job, "a", "b")
    leave(sessions, SUCCEED, job)

    with watching(served, key, job.id, last="3") as answer:
        assert numbers(read(answer)) == [4, 5]


def test_a_client_that_has_all_of_an_ended_job_is_told_not_to_come_again(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    leave(sessions, SUCCEED, job)

    with watching(served, key, job.id, last="3") as answer:
        assert answer.status_code == 204


def test_a_retry_goes_on_behind_the_end_of_the_run_before(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    leave(sessions, FAIL, job)
    with sessions.begin() as session:
        session.scalars(moves.retry(job.project_id, job.id)).one()

    with watching(served, key, job.id, last="3") as answer:
        source = EventSource(answer).iter_sse()
        assert next(source).event == "retried"
        leave(sessions, SUCCEED, claim(sessions))
        assert [event.event for event in source] == ["started", "succeeded"]


@pytest.mark.parametrize("last", ["4", "-1", "x", "1.0", "9" * 30])
def test_a_number_that_the_job_has_not_reached_is_refused(
    served: Served, key: NewKey, job: Job, last: str
) -> None:
    with watching(served, key, job.id, last=last) as answer:
        problem = json.loads(answer.read())

    assert (answer.status_code, problem["field"]) == (422, "Last-Event-ID")


def test_an_idle_stream_is_kept_alive_and_its_client_sees_no_event(
    quick: Settings, key: NewKey, job: Job
) -> None:
    often = quick.model_copy(update={"stream_heartbeat_seconds": 0.05, "stream_max_seconds": 1.0})
    with serve(create_app(often)) as served, watching(served, key, job.id) as answer:
        lines = list(answer.iter_lines())
    with serve(create_app(often)) as served:
        events = follow(served, key, job.id)

    assert lines.count(":") > 2
    assert numbers(events) == [1, 2]


def test_a_stream_ends_when_its_key_does(
    served: Served, key: NewKey, engine: Engine, job: Job
) -> None:
    with watching(served, key, job.id) as answer:
        source = EventSource(answer).iter_sse()
        next(source)
        with engine.begin() as connection:
            connection.execute(delete(ApiKey))
        assert numbers(list(source)) == [2]


def test_a_stream_ends_when_its_job_is_deleted(
    served: Served, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    with watching(served, key, job.id) as answer:
        source = EventSource(answer).iter_sse()
        next(source)
        with sessions.begin() as session:
            session.scalars(moves.delete(job.project_id, job.id)).one()
        assert numbers(list(source)) == [2]


@pytest.mark.parametrize("limit", ["max_streams", "max_streams_per_key"])
def test_one_stream_too_many_is_refused_until_another_ends(
    quick: Settings, key: NewKey, job: Job, limit: str
) -> None:
    with serve(create_app(quick.model_copy(update={limit: 1}))) as served:
        with watching(served, key, job.id) as first:
            source = EventSource(first).iter_sse()
            assert numbers([next(source)]) == [1]
            with watching(served, key, job.id) as second:
                problem: dict[str, Any] = json.loads(second.read())
        status = 429
        while status == 429:  # the server hears of the end a moment later
            with watching(served, key, job.id) as third:
                status = third.status_code

    assert (second.status_code, second.headers["retry-after"]) == (429, "5")
    assert problem["type"].endswith("too_many_streams")
    assert status == 200


def test_streams_end_at_once_when_the_server_is_stopped(
    quick: Settings, key: NewKey, job: Job
) -> None:
    seen: list[ServerSentEvent] = []
    started = threading.Event()

    def watch(served: Served) -> None:
        with watching(served, key, job.id) as answer:
            for event in EventSource(answer).iter_sse():
                seen.append(event)
                started.set()

    with ThreadPoolExecutor(1) as pool:
        with serve(create_app(quick)) as served:
            watcher = pool.submit(watch, served)
            assert started.wait(30)
        # Cut off only when the server gives up waiting, its body would have no end.
        watcher.result(30)

    assert numbers(seen) == [1, 2]


def test_no_stream_holds_a_database_connection(
    served: Served, key: NewKey, engine: Engine, sessions: sessionmaker[Session]
) -> None:
    # More streams than the pool has connections, each of a job of its own.
    job_ids = [bring_to(sessions, key.project_id, "queued") for _ in range(20)]
    answers = [watching(served, key, job_id) for job_id in job_ids]
    opened = [answer.__enter__() for answer in answers]
    try:
        sources = [EventSource(answer).iter_sse() for answer in opened]
        assert [next(source).id for source in sources] == ["1"] * 20
        with engine.connect() as connection:
            busy = text("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'")
            assert connection.scalar(busy) <= 1
    finally:
        for answer in answers:
            answer.__exit__(None, None, None)


def test_a_stream_reads_later_what_it_cannot_read_now(
    quick: Settings, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    async def read() -> list[str]:
        engine = create_async_engine(
            quick.database_url or "", pool_size=1, max_overflow=0, pool_timeout=0.01
        )
        feeds = Feeds(async_sessionmaker(engine), quick)
        async with engine.connect():
            reading = asyncio.create_task(feeds.read(select(Job.id)))
            done, _ = await asyncio.wait({reading}, timeout=1)
            assert not done
        found = await reading
        await engine.dispose()
        return found

    assert asyncio.run(read()) == [job.id]
    assert "a stream waits for the database" in caplog.text


def test_clients_that_are_cut_at_random_miss_nothing_and_see_nothing_twice(
    quick: Settings, key: NewKey, sessions: sessionmaker[Session], job: Job
) -> None:
    clients, batches = 60, 12
    opened = threading.Barrier(clients + 1)

    def watch(served: Served, seed: int) -> list[int]:
        cuts = random.Random(seed)
        seen: list[int] = []
        opened.wait(60)
        while True:
            last = str(seen[-1]) if seen else None
            with watching(served, key, job.id, last=last) as answer:
                if answer.status_code == 204:
                    return seen
                if answer.status_code == 503:  # all connections are busy: "come again"
                    assert "retry-after" in answer.headers
                    continue
                seen += numbers(read(answer, cuts.randint(1, 20)))

    with (
        ThreadPoolExecutor(clients) as pool,
        serve(create_app(quick.model_copy(update={"max_streams_per_key": 2 * clients}))) as served,
    ):
        watchers = [pool.submit(watch, served, seed) for seed in range(clients)]
        opened.wait(60)
        for _ in range(batches):
            record(sessions, job, *"abcd")
        leave(sessions, SUCCEED, job)
        seen = [watcher.result(120) for watcher in watchers]

    assert seen == [list(range(1, 4 * batches + 4))] * clients
