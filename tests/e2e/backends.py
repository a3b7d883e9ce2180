"""Other people's servers for the end-to-end tests, by PST_TEST_BACKENDS: `s3`, `debian`, or both.

Without it the service brings its own.
"""

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app import launch
from tests import bucket

CHOSEN = "PST_TEST_BACKENDS"
POSTGRES = Path("/usr/lib/postgresql/15/bin")
REDIS = "/usr/bin/redis-server"
START_SECONDS = 60


@contextmanager
def chosen() -> Iterator[dict[str, str]]:
    """The variables of a service that uses them."""
    with ExitStack() as stack:
        variables: dict[str, str] = {}
        for name in filter(None, os.environ.get(CHOSEN, "").split(",")):
            variables |= stack.enter_context(BACKENDS[name]())
        yield variables


@contextmanager
def _s3() -> Iterator[dict[str, str]]:
    with bucket.running() as found:
        yield {
            "PST_STORAGE_URL": f"s3://{bucket.NAME}/e2e",
            "PST_STORAGE_OPTIONS": json.dumps(found.options),
        }


@contextmanager
def _debian() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="pst-debian-") as folder, ExitStack() as stack:
        database = stack.enter_context(_postgres(Path(folder)))
        broker = stack.enter_context(_redis(Path(folder)))
        yield {"PST_DATABASE_URL": database, "PST_BROKER_URL": broker}


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    # It refuses to run as root.
    uid = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
    folder.chmod(0o755)
    data = folder / "postgres"
    data.mkdir()
    if uid is not None:
        shutil.chown(data, "postgres", "postgres")
    made = [str(POSTGRES / "initdb"), "-D", str(data), "-U", "pst", "-A", "trust", "-E", "UTF8"]
    subprocess.run(launch.command(made, uid=uid), check=True, capture_output=True)
    port = _free_port()
    server = [str(POSTGRES / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
    with _running(launch.command([*server, "-k", ""], signal="QUIT", uid=uid), port):
        yield f"postgresql://pst@127.0.0.1:{port}/postgres"


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    port = _free_port()
    kept = ["--save", "", "--dir", str(folder)]
    server = [REDIS, "--port", str(port), "--bind", "127.0.0.1", *kept]
    with _running(launch.command(server), port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            _await(process, port)
            yield
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _await(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "a server ended at once"
        assert time.monotonic() < deadline, "a server does not start"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


BACKENDS = {"s3": _s3, "debian": _debian}
