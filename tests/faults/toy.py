"""A job for the toy trainer, and what must hold of one however it went."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Artifact, Kind, State
from app.settings import Settings
from pst_core.spec import CompressionSpec
from tests.jobs import event_types, job_row
from tests.reports import report

SPEC: dict[str, Any] = {"model": "file:model", "dataset": "file:data.csv", "sparsity": 0.9}
HOOKS = Path(__file__).parent / "hooks"
ROOT = Path(__file__).parents[2]
TOY_TRAINER = Path(__file__).with_name("toy_trainer.py")


def make_toy(root: Path, **toy: object) -> None:
    """The folder that the toy's spec refers to, below a file root.

    Args:
        root: The file root.
        toy: ``steps``, ``step_seconds`` and ``snapshot_steps`` of the trainer.
    """
    model = root / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "toy.json").write_text(
        json.dumps({"steps": 8, "step_seconds": 0.0, "snapshot_steps": 3, **toy})
    )
    result = report(CompressionSpec.model_validate(SPEC)).model_dump(mode="json")
    (model / "result.json").write_text(json.dumps({"type": "result", "report": result}))
    (root / "data.csv").write_text("text,label\n")


def expected_result(steps: int = 8) -> str:
    """The SHA-256 of the weights that an undisturbed run ends with."""
    state = "start"
    for step in range(1, steps + 1):
        state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
    return hashlib.sha256(state.encode()).hexdigest()


LISTED = {"webhook_ports": ",", "webhook_networks": ","}  # others: colons


def environment(settings: Settings) -> dict[str, str]:
    """What makes a process of ours work with these settings and the toy trainer."""
    values = settings.model_dump(mode="json", exclude_none=True)
    joined = {
        name: (
            LISTED.get(name, ":").join(map(str, value)) if isinstance(value, list) else str(value)
        )
        for name, value in values.items()
    }
    return os.environ | {
        "PYTHONPATH": f"{HOOKS}{os.pathsep}{ROOT}",
        **{f"PST_{name.upper()}": value for name, value in joined.items()},
    }


@dataclass(frozen=True)
class Remains:
    """What there is of jobs in the database, the storage and the scratch folder."""

    settings: Settings
    sessions: sessionmaker[Session]

    def result(self, job_id: str) -> str:
        """The final weights of a job that succeeded; its events must be whole."""
        job = job_row(self.sessions, job_id)
        assert job.status == "succeeded", (job.status, job.error)
        types = event_types(self.sessions, job_id)
        ends = [kind for kind in types if kind in ("succeeded", "failed", "cancelled")]
        assert ends == ["succeeded"]
        with self.sessions() as session:
            query = select(Artifact).where(
                Artifact.job_id == job_id, Artifact.kind == Kind.CHECKPOINT
            )
            [checkpoint] = session.scalars(query.where(Artifact.state == State.READY))
        [file] = checkpoint.files
        return str(file["sha256"])

    def check_nothing_is_left(self) -> None:
        """Every object has its row and every row its object, and no attempt left a folder."""
        with self.sessions() as session:
            rows = list(session.scalars(select(Artifact)))
        assert {row.state for row in rows} <= {State.READY}
        stored = {
            str(path.relative_to(self.settings.storage_dir))
            for path in self.settings.storage_dir.rglob("*")
            if path.is_file()
        }
        assert stored == {row.storage_key for row in rows}
        scratch = self.settings.scratch_dir
        assert not scratch.exists() or list(scratch.iterdir()) == []
