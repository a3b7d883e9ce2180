"""GET /jobs/{id} of a caller that has it already, or waits for it to change."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.projects.service import NewKey, revoke_key
from tests.jobs import bring_to, submit

Act = Callable[[], None]


@pytest.fixture
def job_id(sessions: sessionmaker[Session], key: NewKey) -> str:
    return submit(sessions, key.project_id)


def while_waiting(
    api: FastAPI, key: NewKey, path: str, act: Act, *, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The answer to a GET; what is done meanwhile is done once the caller waits."""

    async def run() -> httpx.Response:
        waits = asyncio.Event()
        wait: Callable[..., Awaitable[None]] = api.state.watch.wait

        async def waited(*args: object) -> None:
            waits.set()
            await wait(*args)

        api.state.watch.wait = waited
        transport = httpx.ASGITransport(app=api)
        auth = {"Authorization": f"Bearer {key.key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            asked = asyncio.create_task(client.get(path, headers=auth | (headers or {})))
            await asyncio.wait_for(waits.wait(), 20)
            await asyncio.to_thread(act)
            answer = await asked
        await api.state.engine.dispose()
        return answer

    return asyncio.run(run())


def test_a_job_that_the_caller_has_is_not_sent_again(client: TestClient, job_id: str) -> None:
    first = client.get(f"/jobs/{job_id}")

    again = client.get(f"/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert int(again.headers["retry-after"]) > 0


def test_a_job_that_has_changed_has_another_tag(client: TestClient, job_id: str) -> None:
    first = client.get(f"/jobs/{job_id}")
    client.post(f"/jobs/{job_id}/pause")

    again = client.get(f"/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.json()["status"]) == (200, "paused")


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_job_that_has_ended_is_not_waited_for(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, state: str
) -> None:
    job_id = bring_to(sessions, key.project_id, state)
    started = time.monotonic()

    answer = client.get(f"/jobs/{job_id}", params={"wait": 60})

    assert time.monotonic() - started < 30
    assert answer.json()["status"] == state
    assert "retry-after" not in answer.headers


def test_a_job_that_changed_before_is_not_waited_for(client: TestClient, job_id: str) -> None:
    started = time.monotonic()

    answer = client.get(
        f"/jobs/{job_id}", params={"wait": 60}, headers={"If-None-Match": '"an-older-one"'}
    )

    assert answer.status_code == 200
    assert time.monotonic() - started < 30


def test_who_waits_is_answered_as_soon_as_the_job_changes(
    api: FastAPI, key: NewKey, sessions: sessionmaker[Session], job_id: str
) -> None:
    def pause() -> None:
        with sessions.begin() as session:
            session.scalars(moves.pause_queued(key.project_id, job_id)).one()

    answer = while_waiting(api, key, f"/jobs/{job_id}?wait=60", pause)

    assert answer.json()["status"] == "paused"


def test_who_waits_for_a_job_that_is_deleted_learns_that_it_is_gone(
    api: FastAPI, key: NewKey, sessions: sessionmaker[Session], job_id: str
) -> None:
    def delete() -> None:
        with sessions.begin() as session:
            session.scalars(moves.delete(key.project_id, job_id)).one()

    assert while_waiting(api, key, f"/jobs/{job_id}?wait=60", delete).status_code == 404


def test_who_waits_with_a_key_that_is_revoked_meanwhile_is_told_nothing(
    api: FastAPI, key: NewKey, sessions: sessionmaker[Session], job_id: str
) -> None:
    def revoke() -> None:
        with sessions.begin() as session:
            revoke_key(session, key.project_id, key.id)
            session.scalars(moves.pause_queued(key.project_id, job_id)).one()

    answer = while_waiting(api, key, f"/jobs/{job_id}?wait=60", revoke)

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "invalid_key")


def test_who_has_the_job_is_told_after_the_wait_that_nothing_changed(
    client: TestClient, job_id: str
) -> None:
    tag = client.get(f"/jobs/{job_id}").headers["etag"]

    answer = client.get(f"/jobs/{job_id}", params={"wait": 0.01}, headers={"If-None-Match": tag})

    assert answer.status_code == 304


def test_who_waits_holds_no_connection(api: FastAPI, key: NewKey, job_id: str) -> None:
    held: list[int] = []

    while_waiting(
        api, key, f"/jobs/{job_id}?wait=0.2", lambda: held.append(in_use(api)), headers={}
    )

    assert held == [0]


def in_use(api: FastAPI) -> int:
    """Connections that requests hold, once the watch has had its look."""
    give_up_at = time.monotonic() + 10
    checked_out: int = api.state.engine.pool.checkedout()
    while checked_out and time.monotonic() < give_up_at:
        checked_out = api.state.engine.pool.checkedout()
    return checked_out


@pytest.mark.parametrize("wait", ["-1", "61", "NaN", "x"])
def test_nobody_waits_longer_than_a_minute(client: TestClient, job_id: str, wait: str) -> None:
    answer = client.get(f"/jobs/{job_id}", params={"wait": wait})

    assert (answer.status_code, answer.json()["field"]) == (422, "wait")


def test_a_job_is_shown_by_two_statements_at_the_most(
    client: TestClient, api: FastAPI, job_id: str
) -> None:
    client.get(f"/jobs/{job_id}")  # opens the connection
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    event.listen(api.state.engine.sync_engine, "before_cursor_execute", note)
    client.get(f"/jobs/{job_id}")

    assert 1 <= len(statements) <= 2
