"""``python -m tests.faults.chaos --seed 7 --seconds 60``: one run, told as a table."""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.faults.chaos.record import Record
from tests.faults.chaos.run import Outcome, run

# From here on a run has to have seen everything.
WHOLE_SECONDS = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=WHOLE_SECONDS)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.seconds:g} s", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="pst-chaos-"))
    outcome = run(arguments.seed, arguments.seconds, folder)
    problems = list(outcome.problems)
    if arguments.seconds >= WHOLE_SECONDS:
        problems += [f"never seen: {what}" for what, count in outcome.sights.items() if not count]
    _tell(outcome)
    for problem in problems:
        print(f"WRONG: {problem}")
    _tell_events(outcome.record, problems)
    if problems:
        print(f"seed {arguments.seed}: FAILED; logs and histories are in {folder}")
        return 1
    shutil.rmtree(folder)
    print(f"seed {arguments.seed}: as it should be")
    return 0


def _tell(outcome: Outcome) -> None:
    record = outcome.record
    answers = Counter(f"{call.op} {call.answer or 'unanswered'}" for call in record.calls)
    jobs = record.jobs.values()
    table: dict[str, Mapping[str, int]] = {
        "done to it": Counter(deed.what for deed in record.deeds),
        "answered": answers,
        "jobs": Counter(job.error or job.status for job in jobs),
        "in all": {
            "jobs": len(jobs),
            "attempts": sum(job.attempt for job in jobs),
            "events": sum(len(job.events) for job in jobs),
            "objects": len(record.objects),
        },
        "seen": outcome.sights,
    }
    for title, counts in table.items():
        print(f"{title}:")
        for what, count in sorted(counts.items()):
            print(f"  {count:6} {what}")


def _tell_events(record: Record, problems: list[str]) -> None:
    """All events of the jobs that are named."""
    for job in record.jobs.values():
        if any(job.id in problem for problem in problems):
            print(f"{job.id}: {job.status}, run {job.run}, attempt {job.attempt}")
            for event in job.events:
                data = json.dumps(event.data)
                print(f"  {event.seq:4} a{event.attempt} {event.at:.3f} {event.type} {data}")
            for note in record.notes:
                if note.job == job.id:
                    print(
                        f"       a{note.attempt} {note.at:.3f} {note.what} {note.step} {note.pid}"
                    )


if __name__ == "__main__":
    sys.exit(main())
