"""A claimed job and the attempt at it, whose trainer is a small script of the test's."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries as artifact_queries
from app.artifacts.tables import Artifact
from app.db import sync_engine
from app.jobs import moves
from app.jobs.tables import Job, JobEvent
from app.settings import Settings
from pst_core.spec import CompressionSpec
from tests.jobs import claim, event_types, job_row
from tests.reports import report
from worker.attempt import Attempt
from worker.devices import take_free
from worker.held import HeldJob
from worker.leases import Lease

AWAY = "postgresql+psycopg://pst@/pst?host=/nowhere"
SPEC = {"model": "file:model", "dataset": "file:data.csv", "sparsity": 0.9}

PRELUDE = """
import json, os, pathlib, signal, sys
with open(sys.argv[1]) as file:
    task = json.load(file)
out = pathlib.Path(task["out"])
pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))

def say(line):
    os.write(task["events"], line.encode() + b"\\n")

def tell(kind, **fields):
    say(json.dumps({"type": kind, **fields}))

def wait_to_be_stopped():
    tell("phase", phase="training")
    while True:
        signal.pause()

def snapshot(step):
    name = f"step-{step:08}"
    folder = pathlib.Path(task["snapshots"]["folder"], name)
    folder.mkdir()
    (folder / "state.json").write_text(str(step))
    tell("snapshot", name=name, stage="main", step=step)

def export():
    (out / "packed").mkdir(parents=True)
    (out / "packed" / "config.json").write_text("{}")
"""
# What a trainer does unless its test says otherwise.
COMPRESS = 'tell("phase", phase="training")\nexport()\nsay(RESULT)'
VERIFY = 'tell("phase", phase="verifying")'


REPORT = report(CompressionSpec.model_validate(SPEC)).model_dump(mode="json")
RESULT = json.dumps({"type": "result", "report": REPORT})


@dataclass(kw_only=True)
class Bench:
    """A claimed job, the attempt at it, and the trainer it will run."""

    attempt: Attempt
    sessions: sessionmaker[Session]
    script: Path

    def run(self, compress: str = COMPRESS, verify: str = VERIFY) -> Job:
        """Run the attempt with a trainer of these two tasks; the job afterwards."""
        tasks = f"RESULT = {RESULT!r}\n"
        for name, body in (("compress", compress), ("verify", verify)):
            indented = "".join(f"    {line}\n" for line in body.splitlines())
            tasks += f"if task['task'] == {name!r}:\n{indented}"
        self.script.write_text(PRELUDE + tasks)
        self.attempt.run()
        return self.job

    @property
    def job(self) -> Job:
        return job_row(self.sessions, self.attempt.held.job.id)

    @property
    def types(self) -> list[str]:
        return event_types(self.sessions, self.attempt.held.job.id)

    @property
    def trainer_runs(self) -> bool:
        return psutil.pid_exists(int(self.script.with_name("pid").read_text()))

    @property
    def scratch(self) -> Path:
        return self.attempt.settings.scratch_dir / self.attempt.held.job.id

    def artifacts(self, state: str) -> list[Artifact]:
        with self.sessions() as session:
            return list(session.scalars(select(Artifact).where(Artifact.state == state)))

    def last_event(self) -> JobEvent:
        with self.sessions() as session:
            return session.scalars(select(JobEvent).order_by(JobEvent.seq.desc()).limit(1)).one()

    def log(self) -> str:
        storage = self.attempt.settings.storage_dir
        with self.sessions() as session:
            parts = session.scalars(artifact_queries.logs(self.attempt.held.job.id))
            return "".join((storage / part.storage_key).read_text() for part in parts)

    def objects(self) -> list[Path]:
        storage = self.attempt.settings.storage_dir
        return [path for path in storage.rglob("*") if path.is_file()]

    def run_until_training(
        self, interrupt: Callable[[], object], compress: str = "wait_to_be_stopped()"
    ) -> Job:
        """Run a trainer that trains for ever, and do something to it while it does."""
        thread = threading.Thread(target=self._once_training, args=(interrupt,))
        thread.start()
        job = self.run(compress)
        thread.join()
        return job

    def _once_training(self, interrupt: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while self.job.phase != "training":
            assert time.monotonic() < deadline, "it never trained"
            time.sleep(0.02)
        interrupt()

    def ask_to_cancel(self) -> None:
        job = self.attempt.held.job
        with self.sessions.begin() as session:
            session.scalars(moves.request_cancel(job.project_id, job.id)).one()

    def ask_to_pause(self) -> None:
        job = self.attempt.held.job
        with self.sessions.begin() as session:
            session.scalars(moves.request_pause(job.project_id, job.id)).one()

    def give_away(self) -> None:
        """As if the lease had run out and another worker had claimed the job."""
        with self.sessions.begin() as session:
            session.execute(update(Job).values(attempt=Job.attempt + 1))

    def lose_database_until_the_first_retry(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = sessionmaker(sync_engine(AWAY))
        clock = SimpleNamespace(
            monotonic=time.monotonic, sleep=lambda _: away.configure(bind=engine)
        )
        for module in ("worker.held", "worker.recorder"):
            monkeypatch.setattr(f"{module}.time", clock)
        self.attempt.held = replace(self.attempt.held, sessions=away)

    def claim_again(self) -> None:
        """Go on with the job, under another lease, once it is back in the queue."""
        job = claim(self.sessions, lease_seconds=60)
        settings = self.attempt.settings
        lease = Lease(settings, job.id, job.attempt, claimed_at=time.monotonic())
        held = HeldJob(self.sessions, job, lease)
        self.attempt = replace(self.attempt, held=held, started=time.monotonic())

    def stop_renewing(self, *, lease_seconds: float = 60) -> None:
        settings = self.attempt.settings.model_copy(update={"lease_seconds": lease_seconds})
        job = self.attempt.held.job
        lease = Lease(settings, job.id, job.attempt, claimed_at=time.monotonic())
        self.attempt.held = replace(self.attempt.held, lease=lease)


@contextmanager
def claimed(settings: Settings, sessions: sessionmaker[Session], script: Path) -> Iterator[Bench]:
    """The next job, claimed."""
    claimed_at = time.monotonic()
    job = claim(sessions, lease_seconds=settings.lease_seconds)
    device = take_free(["cpu"], settings.devices_dir)
    assert device is not None
    with Lease(settings, job.id, job.attempt, claimed_at=claimed_at) as lease:
        attempt = Attempt(
            settings=settings,
            held=HeldJob(sessions, job, lease),
            device=device,
            stopping=threading.Event(),
            started=claimed_at,
        )
        yield Bench(attempt=attempt, sessions=sessions, script=script)
    os.close(device.lock)
