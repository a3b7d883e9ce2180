"""What is the same for all processes comes from the database, seldom and in bounded time."""

import threading
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.telemetry import state
from app.telemetry.state import StateCollector
from tests.app.telemetry.scraping import families, samples
from tests.jobs import claim, submit


@pytest.fixture
def registry(settings: Settings) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StateCollector(settings.database_url or ""))
    return registry


def test_jobs_are_told_by_state_those_there_are_none_of_too(
    registry: CollectorRegistry, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    submit(sessions, key.project_id)
    claim(sessions)

    assert samples(registry, "pst_jobs") == {
        ("queued",): 1,
        ("running",): 1,
        ("paused",): 0,
        ("succeeded",): 0,
        ("failed",): 0,
        ("cancelled",): 0,
    }


def test_the_oldest_that_waits_is_told_by_device(
    registry: CollectorRegistry, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job_id = submit(sessions, key.project_id)
    with sessions.begin() as session:
        long_ago = text("now() - interval '1 hour'")
        session.execute(update(Job).where(Job.id == job_id).values(not_before=long_ago))

    ages = samples(registry, "pst_queue_oldest_age_seconds")
    assert ages["any",] >= 3600
    assert ages["gpu",] == 0


def test_a_job_that_may_not_start_yet_is_not_late(
    registry: CollectorRegistry, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    with sessions.begin() as session:
        session.execute(update(Job).values(not_before=text("now() + interval '1 hour'")))

    assert samples(registry, "pst_queue_oldest_age_seconds")["any",] == 0


@pytest.mark.usefixtures("finished")
def test_the_bytes_of_what_is_stored_are_told_by_kind(
    registry: CollectorRegistry,
) -> None:
    stored = samples(registry, "pst_stored_bytes")

    assert stored["checkpoint",] > 0
    assert stored["dataset",] == 0


def test_scrapes_one_after_the_other_ask_the_database_once(
    registry: CollectorRegistry, engine: Engine
) -> None:
    first = families(registry)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE jobs"))
        again = families(registry)

    assert first == again


@pytest.mark.usefixtures("engine")
def test_a_database_that_is_locked_up_costs_a_scrape_its_bound_and_no_more(
    registry: CollectorRegistry, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE jobs"))
        told = threading.Thread(target=families, args=(registry,))
        told.start()
        told.join(30)

        assert not told.is_alive()
        assert samples(registry, "pst_database_up") == {(): 0}
        assert samples(registry, "pst_jobs") == {}


def test_a_database_that_is_away_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    registry.register(StateCollector("postgresql+psycopg://pst@/pst?host=/nowhere"))

    assert samples(registry, "pst_database_up") == {(): 0}
    assert "the database did not answer" in caplog.text


def test_two_api_processes_tell_the_same(
    settings: Settings, api: FastAPI, sessions: sessionmaker[Session], key: NewKey
) -> None:
    from app.main import create_app

    submit(sessions, key.project_id)
    with TestClient(api), TestClient(create_app(settings)) as other:
        told = samples(other.app.state.registry, "pst_jobs")  # type: ignore[attr-defined]

    assert told == samples(api.state.registry, "pst_jobs")
    assert told["queued",] == 1


def test_what_is_old_is_read_anew(
    registry: CollectorRegistry,
    sessions: sessionmaker[Session],
    key: NewKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert samples(registry, "pst_jobs")["queued",] == 0
    submit(sessions, key.project_id)
    later = time.monotonic() + state.LIVE_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert samples(registry, "pst_jobs")["queued",] == 1
