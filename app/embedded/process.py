"""Programs as children of ours, and what the kernel says about processes that may not be.

Nothing here trusts a process id read from a file, let alone signals one.
"""

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired, call

_STOP_S = 20.0
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    argv: list[str]
    works_in: Path
    config: str = ""
    """Given to its stdin, where neither the list of processes nor a file shows it."""


def spawn(program: Program, *, log: int, lock: int) -> Popen[bytes]:
    """Starts a program that holds the lock for as long as it or a child of it lives."""
    stdin = _piped(program.config) if program.config else DEVNULL
    kept = {k: v for k in ("PATH", "LD_LIBRARY_PATH") if (v := os.environ.get(k)) is not None}
    try:
        return Popen(
            program.argv,
            cwd=program.works_in,
            env={**kept, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            stdin=stdin,
            stdout=log,
            stderr=STDOUT,
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C in the terminal is for us, who then stop it in order.
            umask=0o077,
        )
    finally:
        os.close(log)
        if stdin != DEVNULL:
            os.close(stdin)


def run(program: Program, *, log: int, lock: int, timeout_s: float) -> int:
    """The exit status of a program that has run to its end, or has been stopped for its length."""
    child = spawn(program, log=log, lock=lock)
    try:
        return child.wait(timeout_s)
    except TimeoutExpired:
        return -SIGTERM
    finally:
        end(child, SIGTERM)


def succeeds(argv: list[str]) -> bool:
    """Whether a command can be run at all, whatever it says."""
    return call(argv, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL) == 0


def end(child: Popen[bytes], stop_signal: Signals) -> None:
    """Asks a child of ours to stop, waits, and kills it if it will not."""
    child.send_signal(stop_signal)
    try:
        child.wait(_STOP_S)
    except TimeoutExpired:
        child.kill()
        child.wait()


def works_in(pid: int, folder: Path) -> bool:
    """Whether a living process has the folder as its working directory, as both servers do."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def listener(path: Path) -> int:
    """The process that listens at a socket, by the kernel's word and not by its own."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(os.fsencode(path))
        option = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(option)[0]
    return pid


def _piped(text: str) -> int:
    read_end, write_end = os.pipe()
    os.write(write_end, os.fsencode(text))
    os.close(write_end)
    return read_end
