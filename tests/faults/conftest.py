"""After every fault test there is nothing more than before it."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, text

from tests.faults.crashing import context

PATIENCE = 15  # seconds; what was killed may take a moment to be gone
CONNECTIONS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def present(engine: Engine, temporary: Path) -> dict[str, object]:
    """Processes of ours, temporary files and connections to PostgreSQL."""
    with engine.connect() as connection:
        connections = connection.scalar(CONNECTIONS)
    # The server has a process for each connection.
    processes = {each for each in psutil.Process().children(recursive=True) if not served(each)}
    return {
        "processes": processes,
        "files": set(temporary.iterdir()),
        "connections": connections,
    }


def served(process: psutil.Process) -> bool:
    try:
        return any("postgres" in part for part in process.cmdline())
    except psutil.Error:
        return True


@pytest.fixture(scope="session")
def servers(migrated_engine: Engine, valkey_url: str) -> Engine:
    """All that tests share is there before the first of them, and stays."""
    del valkey_url
    first = context.Process(target=int)
    first.start()
    first.join()
    return migrated_engine


@pytest.fixture(autouse=True)
def nothing_is_left(servers: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Not below the test's own folder: paths of sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="f") as folder:
        temporary = Path(folder)
        monkeypatch.setenv("TMPDIR", folder)
        before = present(servers, temporary)
        yield
        deadline = time.monotonic() + PATIENCE
        while present(servers, temporary) != before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert present(servers, temporary) == before
