"""Another process that starts a server, and what can be seen of processes from outside."""

import json
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen
from types import TracebackType
from typing import Self, TypedDict, cast

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60.0

_SCRIPT = """
import json, sys
from pathlib import Path
from app.embedded import EmbeddedError, start_postgres, start_valkey

_, which, data = sys.argv
print(json.dumps("imported"), flush=True)
sys.stdin.readline()
try:
    server = {"postgres": start_postgres, "valkey": start_valkey}[which](Path(data), durable=False)
except EmbeddedError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    sys.exit(1)
print(json.dumps({"url": server.url, "pid": server.pid, "joined": server.joined}), flush=True)
sys.stdin.readline()
server.stop()
"""


class Answer(TypedDict, total=False):
    url: str
    pid: int
    joined: bool
    error: str


class Starter:
    """A process of its own that starts a server when told to, and stops it when told to."""

    def __init__(
        self, which: str, data: Path, *, python: tuple[str, ...] = (sys.executable,)
    ) -> None:
        paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
        self.process = Popen(
            [*python, "-c", _SCRIPT, which, str(data)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            cwd="/",
            stdin=PIPE,
            stdout=PIPE,
        )

    def begin(self) -> None:
        """Waits until it has loaded everything, then lets it start the server."""
        assert self._read() == "imported"
        self._say()

    def answer(self) -> Answer:
        return cast("Answer", self._read())

    def start(self) -> Answer:
        self.begin()
        return self.answer()

    def finish(self) -> int:
        self._say()
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def _say(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def _read(self) -> object:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        assert ready, "the other process says nothing"
        return json.loads(self.process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.process:
            self.process.communicate(timeout=DEADLINE_S)  # The end of its stdin lets it stop.


def wait_until(fulfilled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not fulfilled():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has collected its status."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder."""
    return [pid for pid in _all_processes() if _works_in(pid, folder)]


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False
