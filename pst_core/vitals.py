"""What a training loop watches of itself: how long its steps take, and that they stay finite."""

import statistics
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pst_core.errors import NonFiniteLossError


@dataclass(slots=True)
class Clock:
    """Seconds a step, from one report to the next: between them a GPU runs behind its host."""

    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    last_step: int = 0
    # The latest alone: a run of a million steps takes its median every few of them.
    steps: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def tick(self, step: int) -> None:
        now = time.monotonic()
        self.steps.append((now - self.last) / (step - self.last_step))
        self.last, self.last_step = now, step

    def seconds(self) -> float:
        """Since the run began, without the time between its parts."""
        return time.monotonic() - self.started

    def median(self) -> float:
        """Seconds a step."""
        return statistics.median(self.steps)

    def go_on(self, step: int, seconds: float, steps: Iterable[float]) -> None:
        """Count on from where an earlier part of the run was."""
        self.last = time.monotonic()
        self.started, self.last_step = self.last - seconds, step
        self.steps.extend(steps)


class Health:
    """Notes the first step that was not finite, on the device: to ask each step would wait."""

    def __init__(self, device: torch.device) -> None:
        self._first = torch.zeros(3, device=device)  # step, loss, gradient norm
        self._loss = torch.zeros((), device=device)

    def watch(self, step: int, loss: Tensor, norm: Tensor) -> None:
        self._loss = loss
        now = torch.stack([torch.full_like(loss, step), loss, norm.to(loss.dtype)])
        is_first = ~now.isfinite().all() & (self._first[0] == 0)
        self._first = torch.where(is_first, now, self._first)

    def checked_loss(self) -> float:
        """The latest loss; raises NonFiniteLossError if any so far was not finite."""
        step, loss, norm = self._first.tolist()
        if step:
            raise NonFiniteLossError(
                f"Training diverged at step {step:.0f}: loss {loss}, gradient norm {norm}.",
                field="hyperparameters.learning_rate",
                remedy="Lower the learning rates, or raise learning_rate_warmup.",
            )
        return self._loss.item()
