"""The schema's history: from nothing to the tables that the code declares."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from app.db import Base, alembic_config, sync_engine, upgrade


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
        for key in table.foreign_keys:
            assert key.parent.name in leading, f"{table.name}.{key.parent.name}"
