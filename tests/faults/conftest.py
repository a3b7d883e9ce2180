"""After every fault test there is nothing more than before it."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from tests.faults.chaos.installation import other_connections
from tests.faults.crashing import context

PATIENCE = 15  # seconds; what was killed may take a moment to be gone


@dataclass(frozen=True)
class Shared:
    """What all tests use: there before the first of them, and for as long as they last."""

    engine: Engine
    postgres: set[int]
    """Ids of the servers' main processes."""

    def present(self, temporary: Path) -> dict[str, object]:
        """Processes of ours, temporary files and connections to PostgreSQL."""
        processes = set()
        for each in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                # The server's own come and go. A zombie has ended: this process adopts orphans once
                # chaos has run in it, and nothing says when it reaps them.
                if each.ppid() not in self.postgres and each.status() != psutil.STATUS_ZOMBIE:
                    processes.add(each)
        return {
            "processes": processes,
            "files": set(temporary.iterdir()),
            "connections": other_connections(self.engine),
        }


@pytest.fixture(scope="session")
def shared(migrated_engine: Engine, valkey_url: str) -> Shared:
    del valkey_url
    first = context.Process(target=int)
    first.start()
    first.join()
    servers = [each for each in psutil.Process().children() if each.name() == "postgres"]
    return Shared(migrated_engine, {each.pid for each in servers})


@pytest.fixture(autouse=True)
def nothing_is_left(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Not below the test's own folder: paths of sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="f") as folder:
        temporary = Path(folder)
        monkeypatch.setenv("TMPDIR", folder)
        before = shared.present(temporary)
        yield
        deadline = time.monotonic() + PATIENCE
        while shared.present(temporary) != before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert shared.present(temporary) == before
