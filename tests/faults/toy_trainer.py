"""A trainer that trains nothing, with all that a real one does to its supervisor.

Its state is a chain of hashes: a step lost, doubled or taken from a stale snapshot changes the end.
It runs in a bare interpreter, says what it does to a file that all attempts append to, and is told
how long to take by toy.json in its model's folder.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from worker.lifeline import die_with_supervisor

STOPPED = 75


def tell(kind: str, **fields: object) -> None:
    os.write(task["events"], json.dumps({"type": kind, **fields}).encode() + b"\n")


def note(what: str, step: int) -> None:
    line = {"what": what, "step": step, "pid": os.getpid(), "job": job, "attempt": attempt}
    line |= {"device": device, "at": time.monotonic()}
    os.write(history, json.dumps(line).encode() + b"\n")


def held_device() -> str:
    """By the lock that was inherited, which is what keeps others away."""
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    [lock] = [link.name for link in links if link.suffix == ".lock"]
    return lock


def save(step: int, state: str) -> None:
    folder = snapshots / f"step-{step:08}"
    if folder.exists():
        return
    staged = snapshots / f".staged-{step}"
    staged.mkdir(exist_ok=True)
    (staged / "state.json").write_text(json.dumps({"step": step, "state": state}))
    staged.rename(folder)
    tell("snapshot", name=folder.name, stage="main", step=step)


def newest() -> tuple[int, str]:
    """Where to go on from."""
    for folder in sorted(snapshots.glob("step-*"), reverse=True):
        found = json.loads((folder / "state.json").read_text())
        tell("resumed", name=folder.name, stage="main", step=found["step"], exact=True)
        return found["step"], found["state"]
    return 0, "start"


def train() -> None:
    snapshots.mkdir(exist_ok=True)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    tell("phase", phase="training")
    begin, state = newest()
    note("start", begin)
    for step in range(begin + 1, toy["steps"] + 1):
        if stopping:
            save(step - 1, state)
            note("stop", step - 1)
            sys.exit(STOPPED)
        time.sleep(toy["step_seconds"])
        state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
        note("step", step)
        report(step)
        if step % toy["snapshot_steps"] == 0 or step == toy["steps"]:
            save(step, state)
    export(state)
    note("end", toy["steps"])


def report(step: int) -> None:
    tell(
        "progress",
        stage="main",
        step=step,
        total_steps=toy["steps"],
        loss=1 / step,
        sparsity=0.5,
        learning_rate=0.1,
        eta_seconds=0.0,
    )


def export(state: str) -> None:
    tell("phase", phase="exporting")
    folder = out / "packed"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(state)
    os.write(task["events"], (model / "result.json").read_bytes() + b"\n")


def verify() -> None:
    note("verify", toy["steps"])
    tell("phase", phase="verifying")
    if not (out / "packed" / "model.safetensors").stat().st_size:
        tell("failure", code="invalid_checkpoint", message="Empty.")
        sys.exit(1)


with open(sys.argv[1], "rb") as file:  # noqa: PTH123 -- as early as can be
    task = json.load(file)
out = Path(task["out"])
model = Path(task["sources"]["model"])
toy = json.loads((model / "toy.json").read_text())
job, attempt = out.parts[-3], int(out.parts[-2][1:])
history = os.open(model / "history.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
device = held_device()
threading.Thread(target=die_with_supervisor, daemon=True).start()
if task["task"] == "compress":
    snapshots = Path(task["snapshots"]["folder"])
    train()
else:
    verify()
