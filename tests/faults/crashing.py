"""Work in a process of its own that notes the moments it comes by, and ends hard at one."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from app.connections import SERVER
from app.main import create_app
from app.server import Server
from app.settings import Settings
from tests.faults.toy import TOY_TRAINER
from worker import process
from worker.deliveries import Courier
from worker.supervisor import supervise
from worker.sweeper import Sweeper

CRASHED = 9

# Forked from a process that has loaded all this and has no threads: a start costs next to nothing.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.faults.crashing"])


def run(work: Callable[[Settings], object], settings: Settings, arrivals: Path) -> None:
    """Do some work in such a process, to its end."""
    assert _run(work, settings, arrivals, -1) == 0


def crash(work: Callable[[Settings], object], settings: Settings, arrivals: Path, at: int) -> None:
    """Do some work in such a process, which ends at once at one of the moments, from 0."""
    assert _run(work, settings, arrivals, at) == CRASHED


def _run(
    work: Callable[[Settings], object], settings: Settings, arrivals: Path, crash_at: int
) -> int:
    process = context.Process(target=_work, args=(work, settings, arrivals, crash_at))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


@contextmanager
def serving(settings: Settings, arrivals: Path, crash_at: int = -1) -> Iterator[str]:
    """The API in such a process; where it listens. One that is to crash is left to do so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        work = partial(_serve, listener)
        process = context.Process(target=_work, args=(work, settings, arrivals, crash_at))
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            if crash_at < 0:
                process.terminate()
            process.join(300)
            if process.is_alive():
                process.kill()
                process.join()
        assert process.exitcode == (CRASHED if crash_at >= 0 else -signal.SIGTERM)


def supervisor(settings: Settings) -> None:
    """Run one attempt, if there is one to run."""
    supervise(settings, ["cpu"], threading.Event())


def sweep(settings: Settings) -> None:
    Sweeper(settings).sweep()


def courier(settings: Settings) -> None:
    """Send all webhooks that are due."""
    courier = Courier(settings)
    while claimed := courier.claim():
        courier.deliver(claimed)
    courier.close()


def _serve(listener: socket.socket, settings: Settings) -> None:
    app = create_app(settings)
    Server(app, uvicorn.Config(app, log_config=None, **SERVER)).run(sockets=[listener])


def _work(
    work: Callable[[Settings], object], settings: Settings, arrivals: Path, crash_at: int
) -> None:
    process.CHILD = ("-I", "-S", str(TOY_TRAINER))
    file = os.open(arrivals, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    count = -1

    def arrived(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event != "pst.reached":
            return
        count += 1
        os.write(file, f"{arguments[0]}\n".encode())
        if count == crash_at:
            os._exit(CRASHED)

    sys.addaudithook(arrived)
    work(settings)
