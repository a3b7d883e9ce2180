"""``pst serve``: all processes of an installation under one parent, stopped in order.

What each process does is its own; here is only how they live and die together.
"""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app import launch, logs
from app.backends import environment, running_backends
from app.db import sync_engine, upgrade
from app.projects.service import any_key, create_key
from app.settings import Settings
from app.storage import StorageError, check_storage

logger = logging.getLogger(__name__)

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
READY_SECONDS = 60
RESTART_SECONDS = 2.0
TICK = 0.5
STOP_MARGIN = 15.0  # seconds on top of the trainers' grace time


class ServeError(Exception):
    """The installation cannot be started; the message says why."""


@dataclass(slots=True)
class Managed:
    """A process that is started again whenever it ends."""

    name: str
    argv: Sequence[str]
    environment: dict[str, str]
    pass_fds: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    sockets: Sequence[socket.socket] = field(default=(), repr=False)

    def tend(self) -> None:
        """Start it if it does not run, but not twice within some seconds."""
        if self.process is not None and self.process.poll() is not None:
            logger.error("%s ended with status %d", self.name, self.process.returncode)
            self.process = None
        if self.process is None and time.monotonic() >= self.start_at:
            self.start_at = time.monotonic() + RESTART_SECONDS
            # -P: a folder named app or worker where the user stands must not shadow ours.
            # Its own session: Ctrl-C is for us alone, we stop the others in order.
            self.process = subprocess.Popen(
                launch.command([sys.executable, "-P", "-m", *self.argv]),
                env=os.environ | self.environment,
                pass_fds=self.pass_fds,
                start_new_session=True,
            )

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def await_end(self, deadline: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("%s does not stop: killed", self.name)
            self.process.kill()
            self.process.wait()


def serve(
    settings: Settings, *, host: str, port: int, devices: str, say: Callable[[str], None]
) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP.

    Args:
        settings: Where to keep data; URLs that are set are used, the others embedded.
        host: To listen on.
        port: To listen on; 0 for any free one.
        devices: Of the jobs worker, separated by commas.
        say: Prints a line for the user.

    Raises:
        ServeError: Another ``pst serve`` uses the data folder, or the port is taken.
        EmbeddedError: An embedded server cannot be had.
        StorageSettingsError: The settings of the storage are wrong.
    """
    say(f"Starting in {settings.data.resolve()}: the servers first, then the API and workers …")
    _check_storage(settings, say)
    # From here on signals are waited for, not handled: nothing is interrupted half-way.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with (
        _only_one(settings.data),
        _listening(host, port) as listener,
        running_backends(settings) as connected,
    ):
        logs.configure(connected)
        upgrade(connected.database_url or "")
        processes = _processes(connected, listener, devices)
        try:
            _run(processes, f"http://{host}:{listener.getsockname()[1]}", connected, say)
        finally:
            _stop(processes, settings.grace_seconds + STOP_MARGIN)


def _check_storage(settings: Settings, say: Callable[[str], None]) -> None:
    """Tell here and once what each process would find out later, of a job that is lost by it."""
    try:
        check_storage(settings)
    except StorageError as error:
        # An outage is no reason not to start: all that needs it tries again.
        say(f"The bucket of PST_STORAGE_URL does not answer yet: {error.strerror}")


def _processes(settings: Settings, listener: socket.socket, devices: str) -> list[Managed]:
    env = environment(settings)
    fd = listener.fileno()
    return [
        Managed("api", ["app", "api", "--fd", str(fd)], env, pass_fds=(fd,)),
        Managed("worker", ["worker", "jobs", "--devices", devices], env),
        Managed("maintenance", ["worker", "maintenance"], env),
        Managed("beat", ["worker", "beat"], env),
    ]


def _run(
    processes: Sequence[Managed], url: str, settings: Settings, say: Callable[[str], None]
) -> None:
    deadline = time.monotonic() + READY_SECONDS
    ready = False
    while True:
        for process in processes:
            process.tend()
        if not ready and _is_ready(url):
            ready = True
            # Said last: what the processes log at their start would carry it away.
            _first_key(settings, say)
            say(f"pst-service is ready at {url} (docs at {url}/docs); Ctrl-C stops it.")
        if not ready and time.monotonic() > deadline:
            raise ServeError(f"the API does not answer at {url}; see its messages above")
        if signal.sigtimedwait(STOP_SIGNALS, TICK) is not None:
            say("Stopping …")
            return


def _stop(processes: Sequence[Managed], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    # The API last: a pipeline that polls sees its job go back to the queue.
    for process in reversed(processes):
        process.ask_to_stop()
    for process in reversed(processes):
        process.await_end(deadline)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _first_key(settings: Settings, say: Callable[[str], None]) -> None:
    with sync_engine(settings.database_url or "").begin() as connection:
        if not any_key(connection):
            new = create_key(connection, name="first")
            say(f"Your API key, shown only this once: {new.key}")


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data / "serve.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServeError(
                f"another `pst serve` uses {data}; stop it, or choose another --data folder"
            ) from None
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --port"
        ) from error
    with listener:
        yield listener
