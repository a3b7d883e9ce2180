"""What a real terminal shows; tmux is one."""

import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves, queries
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.app.commands.conftest import Pst
from tests.jobs import claim, leave, submit

TMUX = shutil.which("tmux")
PATIENCE = 120  # seconds; guards against hanging
PROGRESS = {
    "stage": "main",
    "step": 6,
    "total_steps": 12,
    "loss": 0.25,
    "sparsity": 0.45,
    "learning_rate": 1e-4,
    "eta_seconds": 60.0,
}

pytestmark = pytest.mark.skipif(TMUX is None, reason="needs tmux")


class Terminal:
    def __init__(self, pst: Pst, folder: Path) -> None:
        self.pst = pst
        self.server = [str(TMUX), "-L", f"pst-{uuid.uuid4().hex}", "-f", "/dev/null"]
        self.folder = folder

    def start(self, *arguments: str, **variables: str) -> None:
        command = shlex.join([sys.executable, "-P", "-m", "app", *arguments])
        given = {**self.pst.variables, **variables}
        named = [part for name, value in given.items() for part in ("-e", f"{name}={value}")]
        size = ("-x", "100", "-y", "20")
        # What is on the screen stays there when the command has ended.
        shell = f"{command}; echo ended with $?; cat"
        self.tmux("new-session", "-d", *size, *named, "-c", str(self.folder), shell)

    def tmux(self, *arguments: str) -> str:
        run = subprocess.run([*self.server, *arguments], capture_output=True, text=True, check=True)
        return run.stdout

    def wait_for(self, text: str) -> str:
        """The screen, once that is on it."""
        deadline = time.monotonic() + PATIENCE
        while text not in (screen := self.tmux("capture-pane", "-p")):
            assert time.monotonic() < deadline, screen
        return screen


@pytest.fixture
def terminal(pst: Pst, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(pst, tmp_path)
    yield terminal
    subprocess.run([*terminal.server, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def training(sessions: sessionmaker[Session], key: NewKey) -> Job:
    """A job that has told of half of its training."""
    submit(sessions, key.project_id)
    job = claim(sessions)
    rows = [
        {"step": step, "stage": "main", "loss": 1.5 / step, "sparsity": step / 13}
        | {"learning_rate": 1e-4}
        for step in range(1, 7)
    ]
    held = (job.id, job.attempt)
    with sessions.begin() as session:
        session.scalars(moves.record(*held, "phase", {"phase": "training"}, phase="training")).one()
        session.execute(queries.set_progress(*held, PROGRESS))
        session.execute(queries.write_metrics(job, rows))
    return job


def test_watching_draws_progress_and_series_until_the_job_has_ended(
    terminal: Terminal, sessions: sessionmaker[Session], training: Job
) -> None:
    terminal.start("jobs", "watch", training.id)

    screen = terminal.wait_for("sparsity ▁")
    assert "running  training  50 %  step 6/12" in screen
    assert "━" * 20 + "─" * 20 in screen
    assert "loss     █" in screen

    assert leave(sessions, SUCCEED, training)
    ended = terminal.wait_for("ended with 0")
    assert "running  training" not in ended, "the picture is drawn over, not again below"
    assert "succeeded" in ended


def test_a_download_has_a_bar(terminal: Terminal, finished: Job) -> None:
    terminal.start("jobs", "download", finished.id)

    screen = terminal.wait_for("ended with 0")
    assert "━" in screen
    assert "kB" in screen
    assert f"{finished.id}-packed.tar" in screen


def test_without_colour_there_is_no_picture(
    terminal: Terminal, sessions: sessionmaker[Session], training: Job
) -> None:
    assert leave(sessions, SUCCEED, training)
    terminal.start("jobs", "watch", training.id, NO_COLOR="1")

    screen = terminal.wait_for("ended with 0")
    assert f"pst: {training.id}  succeeded" in screen
    assert "━" not in screen
