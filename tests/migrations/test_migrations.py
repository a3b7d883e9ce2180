"""The schema's history: from nothing to the tables that the code declares."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, select, text
from sqlalchemy.orm import Session

from app.artifacts import queries
from app.artifacts.tables import Artifact
from app.db import Base, alembic_config, sync_engine, upgrade
from app.jobs import moves
from app.jobs.states import CANCEL_RUNNING
from app.jobs.tables import Job, JobEvent


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE empty"))
    yield postgres_url.replace("/pst?", "/empty?")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE empty WITH (FORCE)"))
    engine.dispose()


def tables(url: str) -> set[str]:
    engine = sync_engine(url)
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def test_an_empty_database_gets_every_table(empty_url: str) -> None:
    upgrade(empty_url)

    assert tables(empty_url) == {*Base.metadata.tables, "alembic_version"}


def test_the_tables_are_those_that_the_code_declares(empty_url: str) -> None:
    upgrade(empty_url)

    command.check(alembic_config(empty_url))  # raises where they drift apart


def test_upgrading_twice_changes_nothing(empty_url: str) -> None:
    upgrade(empty_url)
    upgrade(empty_url)

    command.check(alembic_config(empty_url))


def test_two_processes_may_upgrade_at_once(empty_url: str) -> None:
    command_line = [sys.executable, "-P", "-m", "app", "db", "upgrade"]
    variables = {"PST_DATABASE_URL": empty_url, "PST_BROKER_URL": "redis://unused"}
    processes = [subprocess.Popen(command_line, env=os.environ | variables) for _ in range(2)]

    assert [process.wait(60) for process in processes] == [0, 0]
    assert "jobs" in tables(empty_url)


def test_there_is_one_line_of_revisions() -> None:
    script = ScriptDirectory.from_config(alembic_config("postgresql://"))

    assert len(script.get_heads()) == 1


def test_each_foreign_key_has_an_index_that_starts_with_it() -> None:
    for table in Base.metadata.tables.values():
        leading = {next(iter(index.columns)).name for index in table.indexes if index.columns}
        keys = [c for c in table.constraints if hasattr(c, "columns") and list(c.columns)]
        leading |= {
            next(iter(constraint.columns)).name
            for constraint in keys
            if constraint.__class__.__name__ in ("PrimaryKeyConstraint", "UniqueConstraint")
        }
        for key in table.foreign_key_constraints:
            assert leading & set(key.column_keys), f"{table.name}: {key.column_keys}"


# Of every kind that the first schema knew, as its service left them.
FIRST_ROWS = """
INSERT INTO projects (id, name) VALUES ('prj_1', 'default');
INSERT INTO jobs (id, project_id, spec, hyperparameters, status, attempt, event_seq,
                  cancel_requested, worker, lease_until, started_at, finished_at)
VALUES
  ('job_queued', 'prj_1', '{}', '{}', 'queued', 0, 1, false, NULL, NULL, NULL, NULL),
  ('job_requeued', 'prj_1', '{}', '{}', 'queued', 1, 3, false, NULL, NULL, now(), NULL),
  ('job_running', 'prj_1', '{}', '{}', 'running', 1, 2, true, 'w', now(), now(), NULL),
  ('job_succeeded', 'prj_1', '{}', '{}', 'succeeded', 1, 3, true, NULL, NULL, now(), now()),
  ('job_failed', 'prj_1', '{}', '{}', 'failed', 2, 3, false, NULL, NULL, now(), now()),
  ('job_cancelled', 'prj_1', '{}', '{}', 'cancelled', 0, 2, true, NULL, NULL, NULL, now());
INSERT INTO job_events (job_id, seq, attempt, type, data)
VALUES ('job_queued', 1, 0, 'queued', '{}');
INSERT INTO artifacts (id, job_id, attempt, format, name, storage_key, state, size, sha256)
VALUES
  ('art_1', 'job_succeeded', 1, 'packed', 'packed.tar', 'k1', 'ready', 1, '00'),
  ('art_2', 'job_succeeded', 1, 'dense', 'dense.tar', 'k2', 'ready', 1, '00'),
  ('art_3', 'job_running', 1, 'packed', 'packed.tar', 'k3', 'uploading', NULL, NULL);
"""


@pytest.fixture
def first_engine(empty_url: str) -> Iterator[Engine]:
    """A database of the first schema with rows in it, brought to the newest."""
    command.upgrade(alembic_config(empty_url), "0001")
    engine = sync_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text(FIRST_ROWS))
    upgrade(empty_url)
    yield engine
    engine.dispose()


def test_jobs_of_the_first_schema_are_what_they_were(first_engine: Engine, empty_url: str) -> None:
    with Session(first_engine) as session:
        jobs = list(session.scalars(select(Job)))

    assert {job.id: job.status for job in jobs} == {
        "job_queued": "queued",
        "job_requeued": "queued",
        "job_running": "running",
        "job_succeeded": "succeeded",
        "job_failed": "failed",
        "job_cancelled": "cancelled",
    }
    assert {(job.run, job.device, job.pause_requested) for job in jobs} == {(1, "any", False)}
    with first_engine.connect() as connection:
        for table in (JobEvent, Artifact):
            assert set(connection.scalars(select(table.project_id))) == {"prj_1"}
    command.check(alembic_config(empty_url))


def test_checkpoints_of_the_first_schema_can_still_be_downloaded(first_engine: Engine) -> None:
    with Session(first_engine) as session:
        published = session.scalars(queries.published("job_succeeded"))

        assert [artifact.format for artifact in published] == ["dense", "packed"]


def test_jobs_of_the_first_schema_go_on(first_engine: Engine) -> None:
    claim = moves.claim(worker="w", lease_seconds=30, device="cpu")
    expire = moves.expire(CANCEL_RUNNING, max_lost=20, backoff=moves.Backoff(5))
    with Session(first_engine) as session:
        claimed = [session.scalars(claim).one().id for _ in range(2)]
        swept = session.scalars(expire).one()
        retried = session.scalars(moves.retry("prj_1", "job_failed")).one()

        assert claimed == ["job_queued", "job_requeued"]
        assert (swept.id, swept.status) == ("job_running", "cancelled")
        assert (retried.run, retried.attempt) == (2, 2)
