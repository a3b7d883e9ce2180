"""What a supervisor tells the worker that started it, for that to count: a line an observation.

A supervisor lives as long as one attempt, so what it counted itself would be gone with it. The pipe
is its stdout; nobody waits for it, and what it does not take is lost.
"""

import json
import os
import stat
import time
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

TELL_SECONDS = 1.0  # of training, between two observations of its speed


class _Observation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Began(_Observation):
    what: Literal["began"] = "began"
    device: str


class Stepped(_Observation):
    what: Literal["stepped"] = "stepped"
    stage: str
    steps: int
    seconds: float


class PhaseOver(_Observation):
    what: Literal["phase"] = "phase"
    phase: str
    seconds: float


class Ended(_Observation):
    """``reason`` is an error's class, or why a job went back to the queue."""

    what: Literal["ended"] = "ended"
    outcome: str
    reason: str


Observation = Annotated[Began | Stepped | PhaseOver | Ended, Field(discriminator="what")]
OBSERVATION: TypeAdapter[Observation] = TypeAdapter(Observation)


class Observer:
    """Of this process's attempt; tells nobody until it is said whom."""

    def __init__(self) -> None:
        self._pipe: int | None = None
        self._phase: tuple[str, float] | None = None
        self._step = 0
        self._stepped_at = 0.0

    def tell_to(self, descriptor: int) -> None:
        """Tell a pipe; whatever else the descriptor is, it is no worker's."""
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.set_blocking(descriptor, False)
            self._pipe = descriptor

    def began(self, device: str) -> None:
        self._tell(Began(device=device))
        self.phase("preparing")

    def phase(self, phase: str | None) -> None:
        """One has begun, and so another is over; None: the attempt is."""
        now = time.monotonic()
        if self._phase is not None and self._phase[0] != phase:
            self._tell(PhaseOver(phase=self._phase[0], seconds=now - self._phase[1]))
        if phase is None or self._phase is None or self._phase[0] != phase:
            self._phase = None if phase is None else (phase, now)
            self._stepped_at = 0.0

    def step(self, stage: str, step: int) -> None:
        """A training step is done; they count from 1, or from where a snapshot was."""
        now = time.monotonic()
        if not self._stepped_at or step <= self._step:
            self._step, self._stepped_at = step, now
        elif now - self._stepped_at >= TELL_SECONDS:
            self._tell(
                Stepped(stage=stage, steps=step - self._step, seconds=now - self._stepped_at)
            )
            self._step, self._stepped_at = step, now

    def ended(self, outcome: str, reason: str = "") -> None:
        self.phase(None)
        self._tell(Ended(outcome=outcome, reason=reason))

    def _tell(self, observation: Began | Stepped | PhaseOver | Ended) -> None:
        if self._pipe is None:
            return
        # Shorter than PIPE_BUF: whole or not at all.
        with suppress(OSError):
            os.write(self._pipe, f"{json.dumps(observation.model_dump())}\n".encode())


observer = Observer()
