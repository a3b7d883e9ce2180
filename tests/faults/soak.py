"""``python -m tests.faults.soak --seconds 300``: does an installation stay as it is while it works?

Jobs are posted, cancelled, paused and retried all the time, and trainers killed; of the processes
that go on, memory, open files and threads are looked at. Whole crashes are chaos's.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from tests.faults.chaos.client import Client
from tests.faults.chaos.installation import Installation, other_connections
from tests.faults.chaos.processes import send
from tests.faults.chaos.record import JsonLines
from tests.faults.chaos.run import (
    START_SECONDS,
    STEPS,
    come_to_rest,
    make_files,
    settings_for,
    wait,
)

KILL_SECONDS = 7.0
LOOK_SECONDS = 1.0
# What the last third of a run may have more than the middle one: the first is for warming up.
GROWTH = {"megabytes": 10.0, "files": 3.0, "threads": 2.0, "connections": 3.0}


@dataclass(frozen=True, slots=True)
class Look:
    """What one process had at one time; for the whole installation, its database connections."""

    name: str
    measures: Mapping[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pst-soak-"))
    problems, looks = soak(arguments.seed, arguments.seconds, folder)
    problems += list(grown(looks))
    for problem in problems:
        print(f"WRONG: {problem}")
    if problems:
        print(f"logs and answers are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def soak(seed: int, seconds: float, folder: Path) -> tuple[list[str], list[Look]]:
    """Have an installation work for some time; what is wrong at its end, and what was seen."""
    files = make_files(folder)
    installation = Installation(folder, settings_for(folder, files))
    rng = random.Random(seed)
    looks: list[Look] = []
    try:
        answers = JsonLines(folder / "calls.jsonl")
        client = Client(
            installation.url, installation.key, rng, STEPS, answers, most_jobs=sys.maxsize
        )
        problems = wait("the API", START_SECONDS, client.is_ready, installation)
        client.start()
        looks = list(_watch(installation, rng, seconds))
        client.stop()
        problems += come_to_rest(installation)
        jobs = {call["job"] for call in answers.read() if call["op"] == "post" and call.get("job")}
        print(f"{len(jobs)} jobs in {seconds:g} s")
    finally:
        problems += installation.stop()
    problems += [
        f"{each.name} was started {each.starts} times"
        for each in installation.processes
        # To look for strays it is started again at the end.
        if each.starts > 1 + (each is installation.maintenance)
    ]
    return problems, looks


def _watch(installation: Installation, rng: random.Random, seconds: float) -> Iterator[Look]:
    end = time.monotonic() + seconds
    kill_at = time.monotonic()
    engine = installation.database.engine()
    while time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        if time.monotonic() > kill_at:
            kill_at += KILL_SECONDS
            worker = rng.choice(installation.workers)
            send(worker.find("toy_trainer")[:1], signal.SIGKILL)
        for each in installation.processes:
            if each.process is not None:
                with suppress(psutil.NoSuchProcess):
                    yield Look(each.name, _measure(psutil.Process(each.process.pid)))
        yield Look("the database", {"connections": other_connections(engine)})


def _measure(process: psutil.Process) -> dict[str, float]:
    with process.oneshot():
        return {
            "megabytes": process.memory_info().rss / 1e6,
            "files": process.num_fds(),
            "threads": process.num_threads(),
        }


def grown(looks: Sequence[Look]) -> Iterator[str]:
    """What has become more; all is printed."""
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for look in looks:
        for measure, value in look.measures.items():
            seen[look.name, measure].append(value)
    for (name, measure), values in seen.items():
        third = len(values) // 3
        middle, last = median(values[third : 2 * third]), median(values[-third:])
        print(f"{name}: {measure} {middle:.1f} -> {last:.1f}")
        if last - middle > GROWTH[measure]:
            yield f"{name}: {measure} grew from {middle:.1f} to {last:.1f}"


if __name__ == "__main__":
    sys.exit(main())
