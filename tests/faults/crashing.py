"""A supervisor in a process of its own that notes the moments it comes by, and ends hard at one."""

import multiprocessing
import os
import sys
import threading
from pathlib import Path

from app.settings import Settings
from tests.faults.toy import TOY_TRAINER
from worker import process
from worker.supervisor import supervise

CRASHED = 9

# Forked from a process that has loaded all this and has no threads: a start costs next to nothing.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.faults.crashing"])


def run_supervisor(settings: Settings, arrivals: Path, *, crash_at: int = -1) -> int:
    """Run a supervisor with the toy trainer to its end; its exit status.

    Args:
        settings: What it works with.
        arrivals: Gets a line for each moment it comes by.
        crash_at: The number of the moment at which it ends at once, from 0.
    """
    arguments = (settings, arrivals, crash_at)
    supervisor = context.Process(target=_supervise, args=arguments)
    supervisor.start()
    supervisor.join(300)
    assert supervisor.exitcode is not None, "it hangs"
    return supervisor.exitcode


def _supervise(settings: Settings, arrivals: Path, crash_at: int) -> None:
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
    supervise(settings, ["cpu"], threading.Event())
