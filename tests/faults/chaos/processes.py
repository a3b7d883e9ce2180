"""Processes of a run: started from the main thread, found with all that they have started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from app import launch

RESTART_SECONDS = 0.5


@dataclass(slots=True)
class Managed:
    """``python -m …`` that is started again whenever it has ended."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    pass_fds: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ended_at: float = 0.0
    frozen: bool = False

    def tend(self) -> None:
        """Start it if it does not run; from the main thread, since it dies with who starts it."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.ended_at = time.monotonic()
        if self.process is None and time.monotonic() > self.ended_at + RESTART_SECONDS:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    launch.command([sys.executable, "-P", "-m", *self.argv]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.environment,
                    pass_fds=self.pass_fds,
                    start_new_session=True,
                )
            self.starts += 1

    def tree(self) -> list[psutil.Process]:
        """The process and all that it has started; empty where it has ended."""
        if self.process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def find(self, word: str) -> list[psutil.Process]:
        """Those of its tree that have a word in their command."""
        return [each for each in self.tree() if any(word in part for part in command(each))]

    def stop(self, seconds: float) -> bool:
        """Ask it to end; False where it had to be killed."""
        if self.process is None:
            return True
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            send(self.tree(), signal.SIGKILL)
            self.process.wait()
            return False
        return True


def command(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> list[int]:
    """Signal processes that are still those that were found; their ids."""
    reached = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            reached.append(process.pid)
    return reached


def await_none(known: Iterable[int], seconds: float) -> list[str]:
    """Wait for all descendants but the known to be gone; the commands of those that stay."""
    deadline = time.monotonic() + seconds
    while True:
        kept = {pid for each in known for pid in _family(each)}
        left = [each for each in psutil.Process().children(recursive=True) if each.pid not in kept]
        for each in left:
            # Orphans are ours, see adopt_orphans.
            with suppress(ChildProcessError, psutil.NoSuchProcess):
                if each.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(each.pid, os.WNOHANG)
        if not left or time.monotonic() > deadline:
            return [" ".join(command(each)) or str(each) for each in left]
        time.sleep(0.1)


def _family(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))]
    return []
