"""A child is read as untrusted, gets no secrets, and is stopped with all it started.

The trainers here are small scripts: what a real one does is tested with worker/child.py.
"""

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import pytest

from worker import process
from worker.devices import Device, take_free
from worker.joblog import MAX_LINE, JobLog
from worker.process import ChildProcess, adopt_orphans

PRELUDE = f"ROOT = {str(Path(process.__file__).parents[1])!r}"
PRELUDE += """
import json, os, signal, subprocess, sys, threading, time
sys.path.insert(0, ROOT)
from worker.lifeline import die_with_supervisor

with open(sys.argv[1]) as file:
    events = json.load(file)["events"]

def say(text):
    os.write(events, text if isinstance(text, bytes) else text.encode())

def start_helper(**options):
    command = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
    return subprocess.Popen(command, **options).pid
"""

Start = Callable[[str], ChildProcess]


class Make(Protocol):
    def __call__(self, body: str, device: Device = ...) -> ChildProcess: ...


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = take_free(["cpu"], tmp_path / "devices")
    assert device is not None
    yield device
    os.close(device.lock)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return scratch


@pytest.fixture
def log() -> JobLog:
    return JobLog()


@pytest.fixture
def make(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scratch: Path, device: Device, log: JobLog
) -> Make:
    """Makes a child that runs the script it is given."""

    def make(body: str, device: Device = device) -> ChildProcess:
        script = tmp_path / "trainer.py"
        script.write_text(PRELUDE + body)
        monkeypatch.setattr(process, "CHILD", ("-I", "-S", str(script)))
        return ChildProcess({}, scratch=scratch, device=device, log=log)

    return make


@pytest.fixture
def start(make: Make) -> Iterator[Start]:
    """Makes a child that is gone after the test."""
    with ExitStack() as children:
        yield lambda body: children.enter_context(make(body))


def told(child: ChildProcess) -> Iterator[bytes]:
    return (line for line in child.lines() if line is not None)


def stop(child: ChildProcess, grace: float) -> None:
    child.ask_to_stop()
    child.wait(grace)


def open_descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def await_end(pid: int) -> bool:
    """Whether a process that may be nobody's child any more ends within a minute."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([descriptor], [], [], 60)
    os.close(descriptor)
    return bool(ended)


def test_every_line_is_given_in_order_however_it_is_cut_into_pieces(start: Start) -> None:
    child = start(r"""
say("first\nsec")
say("ond\n")
say("third\n")
""")

    assert list(told(child)) == [b"first", b"second", b"third"]


def test_a_last_line_cut_short_is_dropped(start: Start) -> None:
    child = start(r"""say("whole\ntor")""")

    assert list(told(child)) == [b"whole"]


def test_lines_over_the_limit_are_dropped_and_their_neighbours_kept(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_LINE", 1000)
    child = start(r"""
say("before\n" + 1000 * "x" + "\n")
say(1001 * "y" + "\n")
for _ in range(300):
    say(1000 * "z")
say("\nafter\n")
""")

    assert list(told(child)) == [b"before", 1000 * b"x", b"after"]


def test_a_silent_child_gives_ticks(start: Start) -> None:
    child = start("signal.pause()")

    assert list(islice(child.lines(), 2)) == [None, None]


def test_a_child_that_never_ends_its_line_gives_ticks(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "TICK", 1)
    monkeypatch.setattr(process, "MAX_LINE", 1000)
    child = start(r"""
say("ready\n")
while True:
    say("x")
    time.sleep(0.001)
""")
    lines = child.lines()
    assert next(line for line in lines if line is not None) == b"ready"
    alarm = threading.Timer(5, child.kill)  # else the bug would hang the test
    alarm.start()

    assert next(lines, b"ended") is None
    alarm.cancel()


def test_lines_end_with_the_child_even_if_a_helper_of_it_still_holds_the_pipe(
    start: Start,
) -> None:
    child = start(r"""
start_helper(pass_fds=[events])
say("started\n")
os.abort()
""")
    lines = child.lines()
    assert next(line for line in lines if line is not None) == b"started"
    assert await_end(child._process.pid)

    assert len(list(islice(lines, 10))) < 10


def test_what_a_child_prints_is_no_event_but_goes_into_its_log(start: Start, log: JobLog) -> None:
    child = start(r"""
print('{"type": "phase", "phase": "training"}')
print("trouble", file=sys.stderr)
""")

    assert list(told(child)) == []
    assert "trouble" in log.end().decode()


def test_a_child_that_prints_without_end_neither_blocks_nor_fills_anything(
    start: Start, log: JobLog
) -> None:
    child = start(r"""
for _ in range(64):
    os.write(1, 2**20 * b"x")
say("told\n")
""")

    assert list(told(child)) == [b"told"]
    assert child.wait(60) == 0
    assert len(log.end()) < 2 * MAX_LINE


def test_a_child_gets_no_secret_of_the_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PST_DATABASE_URL", "PST_BROKER_URL", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "s3cret")

    environment = b"".join(told(start(r"""say(json.dumps(dict(os.environ)) + "\n")""")))

    assert b"HF_HUB_OFFLINE" in environment
    assert b"s3cret" not in environment
    assert b"PST_" not in environment


def test_a_child_inherits_its_pipe_and_its_devices_lock_and_nothing_else(
    start: Start, tmp_path: Path
) -> None:
    inheritable = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    child = start(r"""
links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
paths = [os.readlink(link) for link in links if os.path.exists(link)]
say("\n".join(paths) + "\n")
""")
    paths = [path.decode() for path in told(child)]
    os.close(inheritable)

    # stdin, stdout and stderr, the pipe of its events; the lock.
    assert sum(path.startswith("pipe:") for path in paths) == 4
    [lock] = (Path(path).name for path in paths if path.startswith("/"))
    assert lock.endswith("-cpu.lock")
    assert len(paths) == 5


def test_wait_gives_the_exit_status(start: Start) -> None:
    child = start("sys.exit(3)")

    assert list(told(child)) == []
    assert child.wait(60) == 3


def test_wait_gives_the_signal_of_a_crash(start: Start) -> None:
    child = start("os.kill(os.getpid(), signal.SIGUSR1)")

    assert list(told(child)) == []
    assert child.wait(60) == -10


def test_a_child_that_closes_its_pipe_and_goes_on_is_killed(start: Start) -> None:
    child = start("os.close(events)\nsignal.pause()")

    assert list(told(child)) == []
    assert child.wait(0.1) == -9


def test_a_stopped_child_may_end_in_order(start: Start) -> None:
    child = start(r"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
say("ready\n")
signal.pause()
""")
    assert next(told(child)) == b"ready"

    stop(child, 60)

    assert child.kill() == 75


def test_a_child_that_ignores_the_stop_is_killed_after_the_grace_time(start: Start) -> None:
    child = start(r"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say("ready\n")
while True:
    signal.pause()
""")
    assert next(told(child)) == b"ready"

    stop(child, 0.1)

    assert child.kill() == -9


def test_stopping_twice_does_nothing_more(start: Start) -> None:
    child = start("signal.pause()")

    stop(child, 60)
    stop(child, 60)

    assert child.kill() == -15


def test_the_processes_a_child_started_end_with_it(start: Start) -> None:
    child = start(r"""say(f"{start_helper()}\n")""")
    helper = int(next(told(child)))

    assert child.wait(60) == 0

    assert await_end(helper)


def test_a_process_that_fled_into_a_session_of_its_own_ends_with_it(start: Start) -> None:
    adopt_orphans()
    child = start(r"""
helper = start_helper(start_new_session=True)
say(f"{helper}\n")
""")
    helper = int(next(told(child)))

    assert child.wait(60) == 0

    assert await_end(helper)


def test_leaving_the_block_ends_the_child_and_what_it_started(make: Make) -> None:
    with make(r"""
say(f"{os.getpid()} {start_helper()}\n")
signal.pause()
""") as child:
        pids = [int(pid) for pid in next(told(child)).split()]

    assert [await_end(pid) for pid in pids] == [True, True]


def test_a_child_leaves_no_descriptor_behind(make: Make) -> None:
    before = open_descriptors()

    with make("") as child:
        assert list(told(child)) == []

    assert open_descriptors() == before


def test_a_child_holds_its_devices_lock_until_it_is_gone(make: Make, tmp_path: Path) -> None:
    gpu = take_free(["cuda:0"], tmp_path / "devices")
    assert gpu is not None
    with make("signal.pause()", gpu):
        os.close(gpu.lock)  # as when its supervisor dies
        assert take_free(["cuda:0"], tmp_path / "devices") is None

    again = take_free(["cuda:0"], tmp_path / "devices")
    assert again is not None
    os.close(again.lock)


def test_a_child_dies_with_its_parent_though_it_looks_at_nothing(tmp_path: Path) -> None:
    trainer = tmp_path / "trainer.py"
    trainer.write_text(
        PRELUDE
        + r"""
say(f"{os.getpid()}\n")
while True:
    signal.pause()
"""
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-P", "-c", SUPERVISOR, str(trainer), str(tmp_path)],
        stdout=subprocess.PIPE,
    )
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())

    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()

    assert await_end(pid)


SUPERVISOR = """
import sys
from pathlib import Path
from worker import process
from worker.devices import take_free
from worker.joblog import JobLog

process.CHILD = ("-I", "-S", sys.argv[1])
scratch = Path(sys.argv[2])
device = take_free(["cpu"], scratch)
child = process.ChildProcess({}, scratch=scratch, device=device, log=JobLog())
for line in child.lines():
    if line is not None:
        print(int(line), flush=True)
"""


def test_a_child_gets_no_more_memory_than_its_device_has(make: Make, device: Device) -> None:
    child = make(
        """
try:
    bytearray(2**30)
except MemoryError:
    say("refused\\n")
bytearray(2**20)
say("granted\\n")
""",
        device=replace(device, memory_bytes=2**29),
    )
    with child:
        assert list(told(child)) == [b"refused", b"granted"]


def test_a_child_leaves_no_core_file(start: Start) -> None:
    child = start("import resource; say(f'{resource.getrlimit(resource.RLIMIT_CORE)}\\n')")

    assert list(told(child)) == [b"(0, 0)"]


def test_a_child_ends_by_itself_once_its_life_is_not_prolonged(start: Start) -> None:
    child = start("die_with_supervisor()")
    child.lifeline.prolong(time.monotonic())

    assert list(told(child)) == []
    assert child.wait(60) == 75


def test_a_child_lives_for_as_long_as_it_was_last_told_to(start: Start) -> None:
    child = start("""
threading.Thread(target=die_with_supervisor, daemon=True).start()
time.sleep(0.5)
sys.exit(3)
""")
    child.lifeline.prolong(time.monotonic() + 600)
    child.lifeline.prolong(time.monotonic())

    assert list(told(child)) == []
    assert child.wait(60) == 3


def test_a_life_that_is_over_is_prolonged_in_vain(start: Start) -> None:
    child = start("sys.exit(0)")
    child.wait(60)

    child.lifeline.prolong(time.monotonic())
    child.lifeline.close()
    child.lifeline.prolong(time.monotonic())
