"""A supervisor's child process: given no secrets, read as untrusted, stopped with its group.

What its events mean, and why it is stopped, is the supervisor's.
"""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app import launch
from worker.devices import Device
from worker.joblog import JobLog
from worker.lifeline import Lifeline

MAX_LINE = 4 * 1024 * 1024  # bytes; a report of some thousand matrices is below one
TICK = 0.2  # seconds between looks at what else may have happened
OUTPUT_SECONDS = 5.0  # for the rest of its output, once it is dead
# The interpreter's arguments, before the task's file.
CHILD = ("-P", "-m", "worker.child")
FETCHER = ("-P", "-m", "worker.fetching")
PR_SET_CHILD_SUBREAPER = 36
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
# How this host reaches others.
NETWORK = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")


class ChildProcess:
    """``python -m worker.child TASK``, or another program, in a session of its own.

    It dies with this process by the kernel's doing, by its stdin's end if that should fail, and
    by itself once its `lifeline` was prolonged and then is not. It holds the device's lock as long
    as it lives. It must be started from the main thread.

    Args:
        task: What to do.
        scratch: The folder it works in.
        device: What it may use.
        log: Of what it prints.
        hub: The variables that name a hub to the fetch child; None: it is another, and offline.
        program: What it runs, as the interpreter's arguments; None: the trainer or the fetcher.
        limits: What it may use besides the device's, see `launch.command`.
    """

    def __init__(
        self,
        task: Mapping[str, Any],
        *,
        scratch: Path,
        device: Device,
        log: JobLog,
        hub: Mapping[str, str] | None = None,
        program: Sequence[str] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        lifeline, prolonging = os.pipe()
        self.lifeline = Lifeline(prolonging)
        program = program or (CHILD if hub is None else FETCHER)
        task_file = scratch / "task.json"
        task_file.write_text(json.dumps({**task, "events": writer}), encoding="utf-8")
        self._siblings = _children()
        self._process = subprocess.Popen(
            launch.command(
                [sys.executable, *program, str(task_file)],
                signal="KILL",
                limits=device.limits() | dict(limits or {}),
            ),
            stdin=lifeline,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=scratch,
            env=_environment(scratch, device) | (OFFLINE if hub is None else _online(hub)),
            pass_fds=(writer, device.lock),
            start_new_session=True,
        )
        os.close(writer)
        os.close(lifeline)
        # Of this very process, whoever may get its number later.
        self._pidfd = os.pidfd_open(self._process.pid)
        # A thread of its own: whoever prints must never have to wait for the database or storage.
        self._printing = threading.Thread(target=self._read_output, args=(log,), daemon=True)
        self._printing.start()

    def _read_output(self, log: JobLog) -> None:
        output = self._process.stdout
        while output is not None and (data := os.read(output.fileno(), 65536)):
            log.feed(data)

    def lines(self) -> Iterator[bytes | None]:
        """Its event lines until it has ended; None whenever a tick or a read brings none.

        A line over the limit, or one cut short by the child's end, is dropped.
        """
        rest = b""
        with selectors.DefaultSelector() as selector:
            # The process too: a helper of its own may hold the pipe open after its death.
            for descriptor in (self._reader, self._pidfd):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(TICK)}
                chunk = self._read() if ready else None
                if chunk == b"" or (chunk is None and self._pidfd in ready):
                    return
                *lines, rest = (rest + (chunk or b"")).split(b"\n")
                # What grows out of bounds is cut to where it is known to be too long.
                rest = rest[: MAX_LINE + 1]
                yield from (line for line in lines if len(line) <= MAX_LINE)
                if not lines:
                    yield None

    def _read(self) -> bytes | None:
        """What the pipe holds; empty at its end, None where there is nothing yet."""
        try:
            return os.read(self._reader, 65536)
        except BlockingIOError:
            return None

    def wait(self, grace: float) -> int:
        """Its exit status; killed if it does not end in time, and its group in any case."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pidfd, selectors.EVENT_READ)
            selector.select(grace)
        return self.kill()

    def ask_to_stop(self) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def kill(self) -> int:
        """Kill it with all that it has started."""
        # Not reaped yet, it keeps its number from being any other group's.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        self._kill_adopted()
        # Its output ends with the last of them.
        self._printing.join(OUTPUT_SECONDS)
        return status

    def _kill_adopted(self) -> None:
        """Kill what it left in sessions of their own: ours by now, and so in turn their children.

        See `adopt_orphans`.
        """
        while left := _children() - self._siblings:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self.lifeline.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        for descriptor in (self._reader, self._pidfd):
            os.close(descriptor)


def adopt_orphans() -> None:
    """Make this process the parent of all that its children leave behind, whatever their session.

    Raises:
        OSError: The kernel refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def _children() -> set[int]:
    # By their own word: a thread's list of children is gone with the thread.
    return {int(each.name) for each in Path("/proc").iterdir() if _parent(each) == os.getpid()}


def _parent(process: Path) -> int | None:
    """The parent of what is a process, and still there."""
    if not process.name.isdigit():
        return None
    try:
        status = (process / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # After the name, which may hold anything: the state and the parent.
    return int(status.rpartition(b")")[2].split()[1])


def _environment(scratch: Path, device: Device) -> dict[str, str]:
    """Allow-listed: no database, broker or storage credentials, no hub token."""
    return {
        **_inherited(PASSED_ON),
        **device.environment(),
        "TMPDIR": str(scratch),
        "HF_HOME": str(scratch / "huggingface"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        # Threads that spin while they wait make training many times slower on a shared machine.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _online(hub: Mapping[str, str]) -> dict[str, str]:
    return {**_inherited(NETWORK), "HF_HUB_DISABLE_TELEMETRY": "1", **hub}


def _inherited(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
