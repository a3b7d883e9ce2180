"""A database that is slow, locked, full or away: 503, and when to come back."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection

from app import db
from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings

UNAVAILABLE = (503, "/problems/database_unavailable", "5")


def told(client: TestClient, path: str, *, spec: object = None) -> tuple[int, str, str | None]:
    """What a GET, or a POST of a spec, is told: the status, the type and when to come back."""
    answer = client.request("POST" if spec else "GET", path, json=spec)
    return answer.status_code, answer.json()["type"], answer.headers.get("retry-after")


def shorten(api: FastAPI, setting: str, milliseconds: int) -> None:
    """Make a timeout of the API's connections shorter than the tests would like to wait."""

    @event.listens_for(api.state.engine.sync_engine, "connect")
    def _(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET {setting} = {milliseconds}")
        connection.commit()


@contextmanager
def locked(engine: Engine, table: str) -> Iterator[Connection]:
    with engine.begin() as connection:
        connection.execute(text(f"LOCK TABLE {table}"))
        yield connection


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
def test_a_statement_that_waits_too_long_is_given_up(
    client: TestClient, api: FastAPI, engine: Engine, spec: dict[str, object], setting: str
) -> None:
    shorten(api, setting, 100)

    with locked(engine, "jobs"):
        assert told(client, "/jobs", spec=spec) == UNAVAILABLE

    assert client.post("/jobs", json=spec).status_code == 202


@pytest.mark.parametrize(
    "setting", ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"]
)
def test_every_connection_of_the_api_has_every_timeout(
    client: TestClient, api: FastAPI, setting: str
) -> None:
    async def ask() -> str:
        async with api.state.engine.connect() as connection:
            return str((await connection.execute(text(f"SHOW {setting}"))).scalar_one())

    assert client.portal is not None
    assert client.portal.call(ask) in {"5s", "15s", "30s"}


def test_a_pool_without_a_free_connection_is_a_503(
    settings: Settings, key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "POOL_SECONDS", 0.2)
    api = create_app(settings)
    with TestClient(api, raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {key.key}"
        portal = client.portal
        assert portal is not None

        async def hold() -> list[Any]:
            return await asyncio.gather(*(api.state.engine.connect() for _ in range(db.POOL_SIZE)))

        async def release(held: list[Any]) -> None:
            await asyncio.gather(*(connection.close() for connection in held))

        held = portal.call(hold)
        exhausted = told(client, "/jobs")
        portal.call(release, held)

        assert exhausted == UNAVAILABLE
        assert client.get("/jobs").status_code == 200


def test_a_connection_that_the_server_closed_costs_no_request(
    client: TestClient, engine: Engine
) -> None:
    assert client.get("/jobs").status_code == 200
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    assert client.get("/jobs").status_code == 200


def test_a_connection_that_dies_in_a_statement_is_a_503(
    client: TestClient, api: FastAPI, engine: Engine, spec: dict[str, object]
) -> None:
    @event.listens_for(api.state.engine.sync_engine, "before_cursor_execute", once=True)
    def _(connection: Connection, *_: object) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        pid = driver.info.backend_pid
        with engine.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    assert told(client, "/jobs", spec=spec) == UNAVAILABLE
    assert client.post("/jobs", json=spec).status_code == 202


@pytest.mark.parametrize("path", ["/jobs", "/jobs/job_1", "/jobs/job_1/checkpoint"])
def test_a_database_that_is_away_is_a_503_on_every_route(settings: Settings, path: str) -> None:
    away = "postgresql+psycopg://pst@/pst?host=/nowhere"
    api = create_app(settings.model_copy(update={"database_url": away}))
    before = time.monotonic()
    with TestClient(api, raise_server_exceptions=False) as client:
        client.headers["Authorization"] = "Bearer pst_00000000_" + "A" * 43

        assert told(client, path) == UNAVAILABLE

    assert time.monotonic() - before < 5
