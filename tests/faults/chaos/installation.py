"""One installation, each part a process of its own that can be stopped, killed and started again.

Everything is started from the main thread: it all dies with that.
"""

import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from app.db import sync_engine, upgrade
from app.embedded import start_postgres, start_valkey
from app.projects.service import create_key
from app.settings import Settings
from tests.faults.chaos.processes import Managed, await_none, send
from tests.faults.chaos.proxy import Proxy
from tests.faults.toy import environment
from worker.process import adopt_orphans
from worker.sweeper import STRAY_AGE_SECONDS

DEVICES = ("cpu", "cpu:1", "cpu:2")  # all the same, but each with a lock of its own
STOP_SECONDS = 60


class Database:
    """PostgreSQL behind a proxy that keeps its address."""

    def __init__(self, folder: Path, proxies: Path) -> None:
        self._folder = folder
        self._server = start_postgres(folder)
        self.running = True
        self._socket = ".s.PGSQL.5432"
        self.proxy = Proxy(proxies / self._socket, self._target())
        self.url = (
            make_url(self._server.url)
            .update_query_dict({"host": str(proxies)})
            .render_as_string(hide_password=False)
        )

    def engine(self) -> Engine:
        """Past the proxy."""
        return sync_engine(self._server.url)

    @property
    def pid(self) -> int:
        return self._server.pid

    def crash(self) -> None:
        """End it in its "immediate" way, as a crash would."""
        os.kill(self._server.pid, signal.SIGQUIT)  # our child, and not waited for yet
        self._server.stop()
        self.running = False

    def restart(self) -> None:
        if not self.running:
            self._server = start_postgres(self._folder)
            self.proxy.target = self._target()
            self.running = True

    def stop(self) -> None:
        self.proxy.stop()
        self._server.stop()

    def _target(self) -> Path:
        return Path(str(make_url(self._server.url).query["host"])) / self._socket


class Broker:
    """Valkey behind a proxy; it keeps nothing, so that each kill wipes it."""

    def __init__(self, folder: Path, proxies: Path) -> None:
        self._folder = folder
        self._server = start_valkey(folder, durable=False)
        self.running = True
        self.proxy = Proxy(proxies / "valkey.sock", self._target())
        self.url = f"{self._server.url.rpartition('@')[0]}@{quote(str(self.proxy.path))}"

    @property
    def pid(self) -> int:
        return self._server.pid

    def kill(self) -> None:
        os.kill(self._server.pid, signal.SIGKILL)  # our child, and not waited for yet
        self._server.stop()
        self.running = False

    def restart(self) -> None:
        if not self.running:
            self._server = start_valkey(self._folder, durable=False)
            self.proxy.target = self._target()
            self.running = True

    def freeze(self) -> None:
        os.kill(self._server.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self.running:
            os.kill(self._server.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.thaw()
        self.proxy.stop()
        self._server.stop()

    def _target(self) -> Path:
        return Path(self._server.url.rpartition("@")[2])


class Installation:
    """Running when made, until ``stop``.

    Args:
        folder: For everything; a short path, since sockets are in it.
        settings: All but the two URLs.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        adopt_orphans()
        proxies = folder / "proxies"
        proxies.mkdir()
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.database = Database(settings.data / "postgres", proxies)
        self.database.proxy.start()
        self.broker = Broker(settings.data / "valkey", proxies)
        self.broker.proxy.start()
        self.settings = settings.model_copy(
            update={"database_url": self.database.url, "broker_url": self.broker.url}
        )
        upgrade(self.database.url)
        with self.database.engine().begin() as connection:
            self.key = create_key(connection, name="chaos").key
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        fd = self._listener.fileno()
        self.api = self._managed("api", "app", "api", "--fd", str(fd), pass_fds=[fd])
        self.workers = [
            self._managed(f"worker-{number}", "worker", "jobs", "--devices", device)
            for number, device in enumerate(DEVICES, 1)
        ]
        self.maintenance = self._managed("maintenance", "worker", "maintenance")
        self.beat = self._managed("beat", "worker", "beat")
        self.processes = [self.api, *self.workers, self.maintenance, self.beat]
        self.tend()

    def _managed(self, name: str, *argv: str, pass_fds: Sequence[int] = ()) -> Managed:
        log = self.logs / f"{name}.log"
        return Managed(name, argv, environment(self.settings), log, pass_fds)

    def tend(self) -> None:
        for process in self.processes:
            process.tend()

    def age_storage(self) -> None:
        """Make all that is stored old enough to be a stray, and have strays looked for."""
        latest = time.time() - 2 * STRAY_AGE_SECONDS
        for path in self.settings.storage_dir.rglob("*"):
            os.utime(path, (latest, latest))
        self.maintenance.stop(STOP_SECONDS)
        self.maintenance.tend()

    def stop(self) -> list[str]:
        """Stop all; what did not stop by itself, and what is left."""
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes:
            send(process.tree(), signal.SIGCONT)
            if process.process is not None:
                process.process.terminate()
        problems = [
            f"{process.name}: does not stop"
            for process in self.processes
            if not process.stop(max(0.0, deadline - time.monotonic()))
        ]
        self._listener.close()
        servers = [self.database.pid, self.broker.pid]
        problems += [f"still there: {left}" for left in await_none(servers, 15)]
        with suppress(OperationalError):
            problems += self._connections()
        self.broker.stop()
        self.database.stop()
        problems += [f"still there: {left}" for left in await_none([], 15)]
        return problems

    def _connections(self) -> list[str]:
        deadline = time.monotonic() + 15
        while True:
            left = other_connections(self.database.engine())
            if not left:
                return []
            if time.monotonic() > deadline:
                return [f"{left} connections to PostgreSQL are left"]
            time.sleep(0.2)


def other_connections(engine: Engine) -> int:
    """How many clients PostgreSQL has besides the one that asks."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())
