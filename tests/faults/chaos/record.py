"""What a run leaves behind, as plain data: what was asked, what trainers did, what is stored."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.artifacts.tables import Artifact
from app.jobs.tables import Job, JobEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request of the client's; ``answer`` is None where none came."""

    op: str
    at: float
    job: str | None = None
    answer: int | None = None
    run: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A trainer's own word; times are the host's monotonic clock."""

    what: str
    step: int
    pid: int
    job: str
    attempt: int
    at: float
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Deed:
    """Something the nemesis did; ``pids`` are those it reached."""

    what: str
    at: float
    target: str = ""
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    seq: int
    attempt: int
    type: str
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    id: str
    steps: int
    status: str
    run: int = 1
    attempt: int = 1
    lost_attempts: int = 0
    failed_attempts: int = 0
    error: str | None = None
    deleted: bool = False
    events: Sequence[Event] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An artifact's row."""

    job: str
    attempt: int
    kind: str
    state: str
    key: str
    sha256: str | None
    files: Sequence[str]
    """The hashes of the files in it."""
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    calls: Sequence[Call] = ()
    notes: Sequence[Note] = ()
    deeds: Sequence[Deed] = ()
    jobs: Mapping[str, JobState] = field(default_factory=dict)
    artifacts: Sequence[Stored] = ()
    objects: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each file in the storage, by its key."""


class JsonLines:
    """A history that is only ever added to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, **fields: object) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def read_notes(files: Path) -> list[Note]:
    """Of all models below a file root, in the order they were made."""
    lines = [
        json.loads(line)
        for path in files.rglob("history.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return sorted((Note(**line) for line in lines), key=lambda note: note.at)


def read_jobs(engine: Engine) -> dict[str, JobState]:
    with Session(engine) as session:
        events: dict[str, list[Event]] = {}
        for row in session.scalars(select(JobEvent).order_by(JobEvent.job_id, JobEvent.seq)):
            events.setdefault(row.job_id, []).append(
                Event(
                    seq=row.seq,
                    attempt=row.attempt,
                    type=row.type,
                    at=row.created_at.timestamp(),
                    data=row.data,
                )
            )
        return {
            job.id: JobState(
                id=job.id,
                steps=steps_of(job.spec["model"]),
                status=job.status,
                run=job.run,
                attempt=job.attempt,
                lost_attempts=job.lost_attempts,
                failed_attempts=job.failed_attempts,
                error=None if job.error is None else job.error["code"],
                deleted=job.deleted_at is not None,
                events=events.get(job.id, []),
            )
            for job in session.scalars(select(Job))
        }


def read_artifacts(engine: Engine) -> list[Stored]:
    with Session(engine) as session:
        return [
            Stored(
                job=row.job_id,
                attempt=row.attempt,
                kind=row.kind,
                state=row.state,
                key=row.storage_key,
                sha256=row.sha256,
                files=[file["sha256"] for file in row.files],
                at=row.created_at.timestamp(),
            )
            for row in session.scalars(select(Artifact))
        ]


def read_objects(storage: Path) -> dict[str, str]:
    """Temporary files too: they should not be there."""
    return {
        str(path.relative_to(storage)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in storage.rglob("*")
        if path.is_file()
    }


def model_of(steps: int) -> str:
    """The folder of a toy model that takes so many steps, below the file root."""
    return f"steps-{steps}"


def steps_of(reference: str) -> int:
    return int(reference.removeprefix("file:steps-").partition("/")[0])
