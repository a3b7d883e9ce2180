"""The API against its own description, by schemathesis: every check, and calls that follow links.

``make fuzz-api SECONDS=300`` asks for longer, and each time something else.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session, sessionmaker

from app.examples import MORE
from app.jobs.tables import Job
from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.served import serve
from tests.fuzz.worker import worker

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
SECONDS = os.environ.get("FUZZ_SECONDS")
# In the suite always the same questions: of those that go through every field's bounds as many as
# there is time for, and a few of each other sort. Else others each time, for as long as asked.
BUDGETS: dict[str, tuple[str, ...]] = {
    "bounds": ("--phases", "coverage", "--max-time", "10", "--seed", "1"),
    "links": ("--phases", "examples,fuzzing,stateful", "--max-examples", "4", "--seed", "1"),
}
if SECONDS:
    BUDGETS = {"all": ("--max-time", SECONDS)}


@pytest.fixture(autouse=True)
def _examples_lead_somewhere(file_root: Path) -> None:
    model, data = (file_root / str(ref).partition(":")[2] for ref in (MORE["model"], "file:data"))
    for folder in (model, data):
        folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}", encoding="utf-8")
    (data / "reviews.csv").write_text("review,stars\n", encoding="utf-8")


@pytest.mark.parametrize("sort", BUDGETS)
def test_no_answer_contradicts_the_description(
    settings: Settings,
    key: NewKey,
    sessions: sessionmaker[Session],
    connection: Connection,
    tmp_path: Path,
    sort: str,
) -> None:
    with serve(create_app(settings)) as served, worker(sessions, settings, tmp_path):
        fuzzed = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run"),
                *(f"{served.url}/openapi.json", "--checks", "all", "--continue-on-failure"),
                *("--header", f"Authorization: Bearer {key.key}", "--no-color"),
                *BUDGETS[sort],
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    sys.stdout.write(fuzzed.stdout)

    assert fuzzed.returncode == 0, fuzzed.stdout + fuzzed.stderr
    if sort != "bounds":
        links = re.search(r"API Links: +(\d+) covered", fuzzed.stdout)
        assert links is not None
        assert int(links[1]) > 0, fuzzed.stdout
        assert len(set(connection.scalars(select(Job.status).distinct()))) > 1
