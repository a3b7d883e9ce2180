"""The launcher: a child that never outlives its parent, and is nobody where it must not be root."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from app import launch
from tests.app.embedded.starter import DEADLINE_S, ROOT

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")

# Starts a command under the launcher and says so when the command has said something.
_PARENT = """
import os, subprocess, sys
from app import launch

namespace, wanted, *argv = sys.argv[1:]
command = launch.command(argv, signal=wanted, user_namespace=namespace == "True")
subprocess.Popen(command, start_new_session=True)
sys.stdin.read()
"""


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_the_command_gets_its_words_and_its_status_comes_back() -> None:
    script = 'echo "$1|$2"; exit 7'
    done = run(launch.command(["/bin/sh", "-c", script, "sh", "a b", "--signal"]))
    assert (done.stdout, done.returncode) == ("a b|--signal\n", 7)


@pytest.mark.parametrize("namespace", [False, True])
@pytest.mark.parametrize("wanted", ["INT", "TERM", "KILL"])
def test_a_child_gets_the_signal_when_its_parent_is_killed(namespace: bool, wanted: str) -> None:
    # Bash, since a plain sh does not run a trap while it waits for a command.
    script = f"trap 'echo asked; exit' {wanted}; echo ready; while :; do read -t 1 _ <> <(:); done"
    argv = ["/bin/bash", "-c", script]
    parent = Popen(
        [sys.executable, "-c", _PARENT, str(namespace), wanted, *argv],
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        # The child holds the other end of this pipe, so the end of the file is the child's end.
        last_words = parent.stdout.read()
    assert last_words == ("" if wanted == "KILL" else "asked\n")


def test_a_command_whose_parent_is_already_dead_never_runs(tmp_path: Path) -> None:
    command = launch.command(["/bin/touch", str(tmp_path / "trace")])
    command[command.index(str(os.getpid()))] = "1"
    assert run(command).returncode != 0
    assert not (tmp_path / "trace").exists()


def test_in_a_user_namespace_we_look_like_nobody_and_reach_our_own_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    secret.chmod(0o600)
    script = 'id -u; id -g; cat "$0"; echo more > "$0.new"'
    command = launch.command(["/bin/sh", "-c", script, str(secret)], user_namespace=True)
    assert run(command).stdout.split() == ["65534", "65534", "kept"]
    assert (tmp_path / "secret.new").stat().st_uid == os.geteuid()


@needs_root
def test_root_can_have_a_command_run_as_another_user_without_its_groups() -> None:
    script = "id -u; id -g; id -G"
    command = launch.command(["/bin/sh", "-c", script], uid=launch.NOBODY)
    assert run(command).stdout.split() == ["65534", "65534", "65534"]


def test_signals_blocked_in_the_parent_are_not_blocked_in_the_child() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        done = run(launch.command(["/bin/grep", "SigBlk", "/proc/self/status"]))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert int(done.stdout.split()[1], 16) == 0


def test_signals_ignored_in_the_parent_are_not_ignored_in_the_child() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run(launch.command(["/bin/grep", "SigIgn", "/proc/self/status"]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not int(done.stdout.split()[1], 16) & 1 << (signal.SIGINT - 1)


def test_a_command_that_cannot_be_run_says_which_and_why(tmp_path: Path) -> None:
    done = run(launch.command([str(tmp_path / "missing")]))
    assert done.returncode == 126
    assert f"cannot run {tmp_path}/missing" in done.stderr
    assert "No such file" in done.stderr


def test_it_imports_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(launch.__file__).read_text())
    imported = [
        alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    ]
    imported += [str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert set(imported) <= sys.stdlib_module_names
