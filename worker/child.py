"""The trainer's process: the one part of the worker that loads torch, models and users' data.

It has no credentials; it reads one task file and writes events to one pipe.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from pst_core.compress import compress
from pst_core.errors import PstError
from pst_core.events import Event, FailureEvent, PhaseEvent
from pst_core.prepare import Sources
from pst_core.references import DataSource
from pst_core.snapshots import Snapshots
from pst_core.spec import CompressionSpec
from pst_core.stages import Job
from pst_core.trainer import StopRequestedError
from pst_core.verify import verify_export
from worker import failures
from worker.lifeline import ENDED, die_with_supervisor

logger = logging.getLogger(__name__)

CPU_REFUSED = "DefaultCPUAllocator: can't allocate memory"  # torch has no class of its own for it


def main(task_file: str) -> int:
    logging.basicConfig(level=logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    # The kernel kills us with our parent; this is for where that setting got lost, and for a parent
    # that is stopped.
    threading.Thread(target=die_with_supervisor, daemon=True).start()
    task = json.loads(Path(task_file).read_bytes())
    stop = threading.Event()
    if task["task"] == "compress":
        # What is not training has nothing to save that the last snapshot lacks.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(ENDED))
    pipe = os.fdopen(task["events"], "w", encoding="utf-8")

    def emit(event: Event) -> None:
        pipe.write(event.model_dump_json() + "\n")
        pipe.flush()

    try:
        job = Job(
            spec=_spec(task),
            sources=_sources(task),
            emit=emit,
            should_stop=stop.is_set,
            while_training=lambda: _stopping_between_steps(stop),
            snapshots=_snapshots(task),
        )
        _run(task, job)
    except StopRequestedError:
        return ENDED
    except Exception as error:
        logger.exception("the task failed")
        emit(describe(error))
        return 1
    return 0


def _run(task: dict[str, Any], job: Job) -> None:
    if os.environ.get("CUDA_VISIBLE_DEVICES") and not torch.cuda.is_available():
        raise PstError(
            "This worker has a GPU that its torch does not see.",
            remedy="Install a CUDA build of torch there, or start it with --devices cpu.",
        )
    out = Path(task["out"])
    if task["task"] == "compress":
        compress(job, out)
    else:
        job.emit(PhaseEvent(phase="verifying"))
        verify_export(out, job.spec, job.sources)


@contextmanager
def _stopping_between_steps(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM end a training between two of its steps."""
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if stop.is_set():
        # It came with the last step.
        raise StopRequestedError


def _snapshots(task: dict[str, Any]) -> Snapshots | None:
    if (asked := task.get("snapshots")) is None:
        return None
    return Snapshots(folder=Path(asked["folder"]), every_seconds=asked["every_seconds"])


def _spec(task: dict[str, Any]) -> CompressionSpec:
    return CompressionSpec.model_validate(task["spec"])


def _sources(task: dict[str, Any]) -> Sources:
    sources = task["sources"]
    where = tuple(sources["where"]) if sources["where"] else None
    dataset = DataSource(path=Path(sources["dataset"]), where=where)
    # To verify takes no baseline.
    baseline = sources.get("baseline")
    return Sources(
        model=Path(sources["model"]), dataset=dataset, baseline=Path(baseline) if baseline else None
    )


def describe(error: Exception) -> FailureEvent:
    """What the job's owner is told; the traceback stays in the log."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or CPU_REFUSED in str(error):
        return FailureEvent(
            code="out_of_memory",
            message="The device's memory did not suffice.",
            field="hyperparameters.batch_size",
            remedy="Lower batch_size or max_length.",
        )
    return failures.describe(error, "The trainer")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
