"""A supervisor's child process: given no secrets, read as untrusted, stopped with its group.

What its events mean, and why it is stopped, is the supervisor's.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app import launch
from worker.devices import Device

MAX_LINE = 4 * 1024 * 1024  # bytes; a report of some thousand matrices is below one
LOG_TAIL = 4096  # bytes
TICK = 0.2  # seconds between looks at what else may have happened
CHILD = ("-P", "-m", "worker.child")  # the interpreter's arguments, before the task's file
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")


class ChildProcess:
    """``python -m worker.child TASK`` in a session of its own.

    It dies with this process by the kernel's doing, by its stdin's end if that should fail, and
    it holds the device's lock as long as it lives. It must be started from the main thread.
    """

    def __init__(self, task: Mapping[str, Any], *, scratch: Path, device: Device) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        task_file = scratch / "task.json"
        task_file.write_text(json.dumps({**task, "events": writer}), encoding="utf-8")
        # A file and no pipe: a trainer that prints much must not have to wait for us.
        self._log = scratch / "log.txt"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                launch.command([sys.executable, *CHILD, str(task_file)], signal="KILL"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=scratch,
                env=_environment(scratch, device),
                pass_fds=(writer, device.lock),
                start_new_session=True,
            )
        os.close(writer)

    def lines(self) -> Iterator[bytes | None]:
        """Its event lines until it has ended; None whenever a tick or a read brings none.

        A line over the limit, or one cut short by the child's end, is dropped.
        """
        rest = b""
        pidfd = os.pidfd_open(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                # The process too: a helper of its own may hold the pipe open after its death.
                for descriptor in (self._reader, pidfd):
                    selector.register(descriptor, selectors.EVENT_READ)
                while True:
                    ready = {key.fd for key, _ in selector.select(TICK)}
                    chunk = self._read() if ready else None
                    if chunk == b"" or (chunk is None and pidfd in ready):
                        return
                    *lines, rest = (rest + (chunk or b"")).split(b"\n")
                    # What grows out of bounds is cut to where it is known to be too long.
                    rest = rest[: MAX_LINE + 1]
                    yield from (line for line in lines if len(line) <= MAX_LINE)
                    if not lines:
                        yield None
        finally:
            os.close(pidfd)

    def _read(self) -> bytes | None:
        """What the pipe holds; empty at its end, None where there is nothing yet."""
        try:
            return os.read(self._reader, 65536)
        except BlockingIOError:
            return None

    def log_tail(self) -> str:
        """The end of what it printed; nobody else keeps it."""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - LOG_TAIL))
            return file.read().decode("utf-8", errors="replace")

    def wait(self, grace: float) -> int:
        """Its exit status; killed if it does not end in time, and its group in any case."""
        pidfd = os.pidfd_open(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(pidfd, selectors.EVENT_READ)
                selector.select(grace)
        finally:
            os.close(pidfd)
        return self.kill()

    def stop(self, grace: float) -> None:
        """Ask it to stop, and kill its group once it has or the grace time has passed."""
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGTERM)
            self.wait(grace)

    def kill(self) -> int:
        """Kill its whole group. Not reaped yet, it keeps its id from being anybody else's."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        os.close(self._reader)


def _environment(scratch: Path, device: Device) -> dict[str, str]:
    """Allow-listed: no database, broker or storage credentials, no hub token."""
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **device.environment(),
        "TMPDIR": str(scratch),
        "HF_HOME": str(scratch / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        # Threads that spin while they wait make training many times slower on a shared machine.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
