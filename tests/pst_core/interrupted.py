"""Compressions that are stopped or killed on their way, and what the next attempt makes of it."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import pytest

from pst_core import bootstrap
from pst_core.compress import compress
from pst_core.events import Event
from pst_core.prepare import Sources
from pst_core.report import Report
from pst_core.snapshots import Snapshots
from pst_core.spec import CompressionSpec
from pst_core.stages import Job
from pst_core.trainer import StopRequestedError
from tests.pst_core.exports import sha256s

KILLED = 9
# Every stage collects garbage, and all that torch and transformers are made of is none.
gc.freeze()
Kind = TypeVar("Kind", bound=Event)


@dataclass
class Case:
    """One spec with its sources and its folder of snapshots; attempts follow each other."""

    spec: CompressionSpec
    sources: Sources
    folder: Path
    every_seconds: float = 0.0
    events: list[Event] = field(default_factory=list)
    """Of the latest attempt."""
    attempts: int = 0

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots"

    @property
    def out(self) -> Path:
        """What the latest attempt wrote."""
        return self.folder / f"out{self.attempts}"

    def attempt(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        emit: Callable[[Event], None] = lambda _: None,
    ) -> Report:
        self.attempts += 1
        self.events = []

        def tell(event: Event) -> None:
            self.events.append(event)
            emit(event)

        job = Job(
            spec=self.spec,
            sources=self.sources,
            emit=tell,
            should_stop=should_stop,
            snapshots=Snapshots(folder=self.snapshots, every_seconds=self.every_seconds),
        )
        return _compress(job, self.out)

    def stop_after(self, steps: int) -> None:
        """Attempt, and ask to stop after so many steps."""
        asked = iter([False] * steps)
        with pytest.raises(StopRequestedError):
            self.attempt(should_stop=lambda: next(asked, True))

    def kill_at(self, point: str, arrival: int = 1) -> None:
        """Attempt in another process, which ends without a word at the point's nth arrival."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        process = context.Process(target=_die_at, args=(self, point, arrival))
        process.start()
        process.join()
        self.attempts += 1
        assert process.exitcode == KILLED, f"{point} was not reached {arrival} times"

    def told(self, kind: type[Kind]) -> list[Kind]:
        """The latest attempt's events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def _die_at(case: Case, point: str, arrival: int) -> None:
    left = arrival

    def listen(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if event == "pst.reached" and args == (point,):
            left -= 1
            if left == 0:
                os._exit(KILLED)

    sys.addaudithook(listen)
    case.attempt(emit=lambda event: listen("pst.reached", (f"event:{_name(event)}",)))


def _name(event: Event) -> str:
    return getattr(event, "phase", event.type)


def undisturbed(spec: CompressionSpec, sources: Sources, out: Path) -> dict[str, str]:
    """The hash of every file of a run that nobody interrupts, and that keeps no snapshots."""
    _compress(Job(spec=spec, sources=sources, emit=lambda _: None), out)
    return sha256s(out)


def _compress(job: Job, out: Path) -> Report:
    # Intervals are beside the point here, and cost more than the training of a tiny model.
    with patch.object(bootstrap, "RESAMPLES", 20):
        return compress(job, out)
