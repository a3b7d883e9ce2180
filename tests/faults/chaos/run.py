"""One run: disturb, let it come to rest, and see what is left."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select

from app.artifacts import queries as artifacts
from app.artifacts.tables import Artifact, State
from app.jobs.states import Status
from app.jobs.tables import Job
from app.settings import Settings
from tests.faults.chaos.checker import Budgets, check
from tests.faults.chaos.client import Client
from tests.faults.chaos.installation import Installation
from tests.faults.chaos.nemesis import Nemesis
from tests.faults.chaos.record import (
    Call,
    Deed,
    JsonLines,
    Record,
    model_of,
    read_artifacts,
    read_jobs,
    read_notes,
    read_objects,
)
from tests.faults.toy import make_toy

STEPS = (5, 10, 20, 32)
STEP_SECONDS = 0.2
BUDGETS = Budgets(lost_attempts=12, failed_attempts=8)
# Deadlines against hanging: what they guard is fast.
START_SECONDS = 180
REST_SECONDS = 300
REFUSED = ("is no longer ours", "lost, and not let go of")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known after a run.

    Args:
        record: All that was found.
        sights: How often what makes a run interesting was seen.
        problems: What should not be.
    """

    record: Record
    sights: Mapping[str, int]
    problems: list[str]


def run(seed: int, seconds: float, folder: Path) -> Outcome:
    """Disturb an installation for some time.

    Args:
        seed: Of all choices; when something happens depends on the machine too.
        seconds: How long it is disturbed.
        folder: Empty, with a short path.
    """
    files = make_files(folder)
    calls, deeds = JsonLines(folder / "calls.jsonl"), JsonLines(folder / "deeds.jsonl")
    installation = Installation(folder, settings_for(folder, files))
    problems: list[str] = []
    try:
        rng = random.Random(seed)
        client = Client(
            installation.url, installation.key, random.Random(rng.random()), STEPS, calls
        )
        problems += wait("the API", START_SECONDS, client.is_ready, installation)
        client.start()
        problems += wait("a first trainer", START_SECONDS, lambda: read_notes(files), installation)
        Nemesis(installation, rng, deeds).run(seconds)
        client.stop()
        problems += come_to_rest(installation)
        engine = installation.database.engine()
        record = Record(
            calls=[Call(**line) for line in calls.read()],
            notes=read_notes(files),
            deeds=[Deed(**line) for line in deeds.read()],
            jobs=read_jobs(engine),
            artifacts=read_artifacts(engine),
            objects=read_objects(installation.settings.storage_dir),
        )
    finally:
        problems += installation.stop()
    problems += check(record, BUDGETS)
    return Outcome(record, _sights(record, installation), problems)


def make_files(folder: Path) -> Path:
    """A folder with the toys that a client's jobs name."""
    files = folder / "files"
    for steps in STEPS:
        root = files / model_of(steps)
        root.mkdir(parents=True)
        make_toy(root, steps=steps, step_seconds=STEP_SECONDS)
    return files


def settings_for(folder: Path, files: Path) -> Settings:
    return Settings(
        data=folder / "data",
        file_roots=(files,),
        lease_seconds=3,
        renew_seconds=0.3,
        grace_seconds=1,
        poll_seconds=0.5,
        sweep_seconds=0.5,
        backoff_seconds=0.05,
        max_lost_attempts=BUDGETS.lost_attempts,
        max_failed_attempts=BUDGETS.failed_attempts,
    )


def wait(
    what: str, seconds: float, is_there: Callable[[], object], installation: Installation
) -> list[str]:
    deadline = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > deadline:
            return [f"{what}: not within {seconds} s"]
        installation.tend()
        time.sleep(0.1)
    return []


def come_to_rest(installation: Installation) -> list[str]:
    """Wait until all jobs have ended and all sweeps have found everything done."""
    engine = installation.database.engine()
    scratch = installation.settings.scratch_dir
    going_on = select(func.count()).where(Job.status.in_((Status.QUEUED, Status.RUNNING)))
    spent = artifacts.no_longer_needed(
        snapshot_seconds=installation.settings.keep_snapshots_seconds
    )
    unswept = select(
        select(func.count()).where((Artifact.state != State.READY) | spent).scalar_subquery()
        + select(func.count()).where(Job.deleted_at.is_not(None)).scalar_subquery()
    )

    def is_nothing_left(engine: Engine) -> bool:
        with engine.connect() as connection:
            left = connection.scalar(going_on) or connection.scalar(unswept)
        return not left and not any(scratch.glob("*"))

    def has_no_strays(engine: Engine) -> bool:
        stored = read_objects(installation.settings.storage_dir)
        return stored.keys() == {row.key for row in read_artifacts(engine)}

    problems = wait("rest", REST_SECONDS, lambda: is_nothing_left(engine), installation)
    problems += [f"{path}: is left" for path in scratch.glob("*/*")]
    installation.age_storage()
    return problems + wait(
        "a storage without strays", REST_SECONDS, lambda: has_no_strays(engine), installation
    )


def _sights(record: Record, installation: Installation) -> dict[str, int]:
    events = [event for job in record.jobs.values() for event in job.events]
    logs = "".join(
        (installation.logs / f"{worker.name}.log").read_text(encoding="utf-8", errors="replace")
        for worker in installation.workers
    )
    deeds = Counter(deed.what for deed in record.deeds)
    return {
        "a lease ran out": sum(event.data.get("reason") == "lease_expired" for event in events),
        "a stale attempt was refused": sum(logs.count(words) for words in REFUSED),
        "an attempt went on from a snapshot": sum(event.type == "continued" for event in events),
        "a job went back to the queue": sum(event.type == "requeued" for event in events),
        "a worker was started again": sum(each.starts - 1 for each in installation.workers),
        "the database was started again": deeds["crash_database"],
    }
