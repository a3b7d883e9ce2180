"""A release works on its own schema alone: of another it says what to do, and touches nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from app import schema
from app.db import SchemaError, upgrade
from app.settings import Settings
from worker.launcher import Launcher

LATER, EARLIER = "9999", "0001"
SET = text("UPDATE alembic_version SET version_num = :revision")


@pytest.fixture
def at(migrated_engine: Engine, request: pytest.FixtureRequest) -> Iterator[str]:
    """The database as another release has left it."""
    with migrated_engine.begin() as connection:
        connection.execute(SET, {"revision": request.param})
    yield request.param
    with migrated_engine.begin() as connection:
        connection.execute(SET, {"revision": schema.expected()})


def start(settings: Settings, *words: str) -> tuple[int, str]:
    variables = {
        "PST_DATABASE_URL": settings.database_url or "",
        "PST_BROKER_URL": settings.broker_url or "",
        "PST_DATA": str(settings.data),
    }
    process = subprocess.run(
        [sys.executable, "-P", "-m", *words],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stderr


def test_the_own_schema_is_no_error(migrated_engine: Engine) -> None:
    with migrated_engine.connect() as connection:
        schema.check(connection)


@pytest.mark.parametrize(
    ("at", "remedy"),
    [(LATER, "start that release"), (EARLIER, "pst db upgrade")],
    indirect=["at"],
)
@pytest.mark.parametrize(
    "words", [("app", "api", "--port", "0"), ("worker", "jobs")], ids=["api", "worker"]
)
def test_on_another_schema_nothing_starts_and_the_message_says_what_to_do(
    settings: Settings, at: str, remedy: str, words: tuple[str, ...]
) -> None:
    status, said = start(settings, *words)

    assert status == 1
    assert f"schema {at}" in said
    assert remedy in said
    assert "Traceback" not in said


@pytest.mark.parametrize("at", [LATER], indirect=True)
def test_a_later_schema_is_not_taken_back(settings: Settings, at: str) -> None:
    with pytest.raises(SchemaError, match="a later release"):
        upgrade(settings.database_url or "")

    with pytest.raises(SchemaError, match=at):
        schema.check_at_start(settings.database_url or "")


@pytest.mark.parametrize("at", [LATER], indirect=True)
@pytest.mark.usefixtures("at")
def test_a_worker_that_meets_a_later_schema_takes_no_further_job(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert Launcher(settings, ["cpu"])._job_waits() is False

    assert "no job is taken" in caplog.text


def test_a_database_that_is_away_holds_up_no_start(caplog: pytest.LogCaptureFixture) -> None:
    schema.check_at_start("postgresql+psycopg://pst@/pst?host=/nowhere")

    assert "not known yet" in caplog.text
