"""A backup as docs/operations.md has it, restored: jobs and downloads are there again."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, make_url, text

from app.db import upgrade
from app.embedded.binaries import find_postgres
from app.jobs.tables import Job
from app.main import create_app
from app.settings import Settings


def libpq(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


@pytest.fixture
def other_url(postgres_url: str) -> Iterator[str]:
    """An empty database, as a new host would have."""
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE restored"))
    yield make_url(postgres_url).set(database="restored").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE restored WITH (FORCE)"))
    server.dispose()


def test_after_a_restore_jobs_and_their_downloads_are_there(
    client: TestClient, settings: Settings, finished: Job, other_url: str, tmp_path: Path
) -> None:
    path = f"/jobs/{finished.id}/checkpoint"
    before, archive = client.get(f"/jobs/{finished.id}").json(), client.get(path)

    # The database first: whatever its rows name was written before them.
    dump, tools = tmp_path / "pst.dump", find_postgres()
    assert tools is not None
    subprocess.run(
        [
            tools / "pg_dump",
            "--format=custom",
            f"--file={dump}",
            libpq(settings.database_url or ""),
        ],
        check=True,
    )
    data = tmp_path / "restored"
    shutil.copytree(settings.storage_dir, data / "storage")
    shutil.rmtree(settings.storage_dir)
    subprocess.run(
        [
            tools / "pg_restore",
            "--clean",
            "--if-exists",
            "--no-owner",
            "--dbname",
            libpq(other_url),
            dump,
        ],
        check=True,
    )
    upgrade(other_url)

    restored = Settings(data=data, database_url=other_url, broker_url=settings.broker_url)
    headers = {"Authorization": client.headers["Authorization"]}
    with TestClient(create_app(restored), headers=headers) as after:
        assert after.get(f"/jobs/{finished.id}").json() == before
        assert after.get(path).content == archive.content
        assert after.get(path).headers["repr-digest"] == archive.headers["repr-digest"]
