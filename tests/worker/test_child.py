"""The trainer's process keeps snapshots where it is told to, and ends when it is asked to."""

import json
import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from pst_core.compress import compress
from pst_core.events import Event, PhaseEvent
from pst_core.report import Report
from pst_core.stages import Job
from tests.pst_core import tiny
from worker import child
from worker.lifeline import ENDED

HYPER = {"epochs": 0.4, "batch_size": 16, "rank": 2, "score_rank": 2}


def write_task(folder: Path) -> Path:
    sources = tiny.sources(folder)
    task = {
        "task": "compress",
        "spec": tiny.spec_document(folder, hyperparameters=HYPER),
        "sources": {
            "model": str(sources.model), "dataset": str(sources.dataset.path), "where": None
        },
        "out": str(folder / "out"),
        "snapshots": {"folder": str(folder / "snapshots"), "every_seconds": 3600},
    }  # fmt: skip
    path = folder / "task.json"
    path.write_text(json.dumps(task), encoding="utf-8")
    return path


def run(task: Path, moment: str) -> int | None:
    """The exit status of a child that is sent SIGTERM at some moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(task, moment))
    process.start()
    process.join()
    return process.exitcode


def _run(task: Path, moment: str) -> None:
    def reached(name: str) -> None:
        if name == moment:
            os.kill(os.getpid(), signal.SIGTERM)

    def listen(event: str, args: tuple[str, ...]) -> None:
        if event == "pst.reached":
            reached(*args)

    def compress_and_listen(job: Job, out: Path) -> Report:
        def emit(event: Event) -> None:
            job.emit(event)
            if isinstance(event, PhaseEvent):
                reached(event.phase)

        return compress(replace(job, emit=emit), out)

    sys.addaudithook(listen)
    document = json.loads(task.read_bytes())
    document["events"] = os.open(task.with_name("events.jsonl"), os.O_WRONLY | os.O_CREAT)
    task.write_text(json.dumps(document), encoding="utf-8")
    # Standard input is its supervisor, whose end it would not outlive.
    reader, _ = os.pipe()
    os.dup2(reader, 0)
    sys.stdin = os.fdopen(0)
    with patch.object(child, "compress", compress_and_listen):
        sys.exit(child.main(str(task)))


def events(task: Path) -> list[dict[str, object]]:
    lines = task.with_name("events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_child_that_is_stopped_while_it_trains_leaves_a_snapshot(tmp_path: Path) -> None:
    task = write_task(tmp_path)
    assert run(task, "train:step") == ENDED
    assert events(task)[-1]["type"] == "snapshot"
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("moment", ["preparing", "exporting"])
def test_a_child_that_does_not_train_ends_at_once(tmp_path: Path, moment: str) -> None:
    task = write_task(tmp_path)
    assert run(task, moment) == ENDED
    assert events(task)[-1] == {"type": "phase", "phase": moment}


def test_a_child_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    task = write_task(tmp_path)
    assert run(task, "exporting") == ENDED
    assert run(task, "never") == 0
    told = events(task)
    assert [event["type"] for event in told if event["type"] in {"resumed", "progress"}] == [
        "resumed"
    ]
    assert told[-1]["type"] == "result"


def test_memory_that_torch_refuses_on_a_cpu_is_told_as_such() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50)

    assert child.describe(refused.value).code == "out_of_memory"
