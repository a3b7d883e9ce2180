"""The training loop. Which parameters train, and what becomes of the model, lies elsewhere."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from pst_core.batches import Batch
from pst_core.convert import Converted
from pst_core.errors import NonFiniteLossError
from pst_core.memory import peak_memory
from pst_core.recipes import Hyperparameters
from pst_core.report import Cost
from pst_core.schedule import learning_rate_factor, sparsity_at
from pst_core.tasks import Task

REPORTS = 200  # of a short run; a long one reports every REPORT_EVERY steps
REPORT_EVERY = 25


class StopRequestedError(Exception):
    """The caller asked the run to stop; it is neither a failure nor an end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    step: int
    loss: float
    sparsity: float
    learning_rate: float
    step_seconds: float
    """Median so far."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    """At its highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training run.

    Args:
        model: In which exactly the parameters of `groups` require gradients.
        task: Gives the loss.
        sparse: Its sparse layers; none for dense training.
        groups: What trains, at which rates; that of the first group is reported.
        batches: At least ``total_steps`` of them.
        total_steps: Optimizer steps.
        target_sparsity: Where the schedule ends.
        hyper: The rest of the recipe.
        teacher_logits: Of every example, on the model's device; None where nothing is distilled.
        validate: Scores the model as it is, higher is better; called for the recipe's validations.
        report: Told of some steps, the last one included.
        should_stop: Asked before each step.
    """

    model: PreTrainedModel
    task: Task
    sparse: Converted
    groups: Sequence[ParameterGroup]
    batches: Iterator[Batch]
    total_steps: int
    target_sparsity: float
    hyper: Hyperparameters
    teacher_logits: Tensor | None = None
    validate: Callable[[], float]
    report: Callable[[StepReport], None]
    should_stop: Callable[[], bool]

    def sparsity(self, step: int) -> float:
        return sparsity_at(
            step,
            self.total_steps,
            target=self.target_sparsity,
            initial_warmup=self.hyper.initial_warmup,
            final_hold=self.hyper.final_hold,
        )

    def rate_factor(self, step: int) -> float:
        return learning_rate_factor(
            step,
            self.total_steps,
            warmup=self.hyper.learning_rate_warmup,
            decay=self.hyper.learning_rate_decay,
        )


def train(run: Run) -> Cost:
    """Train a model in place.

    Raises:
        NonFiniteLossError: The loss or a gradient became NaN or infinite; names the step.
        StopRequestedError: ``should_stop`` said so.
    """
    accelerator = Accelerator(
        cpu=run.model.device.type == "cpu",
        # Said outright, or variables of the environment would.
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    optimizer = accelerator.prepare(_optimizer(run))
    parameters = [p for group in run.groups for p in group.parameters]
    clock, health, best = _Clock(), _Health(run.model.device), _Best(run, parameters)
    report_every = min(max(1, run.total_steps // REPORTS), REPORT_EVERY)
    step = 0
    run.model.train()
    for step in range(1, run.total_steps + 1):
        if run.should_stop():
            raise StopRequestedError
        run.sparse.set_sparsity(run.sparsity(step))
        loss = _forward_backward(run, accelerator)
        norm = accelerator.clip_grad_norm_(parameters, run.hyper.max_gradient_norm)
        health.watch(step, loss, norm)
        _set_rates(run, optimizer, step)
        optimizer.step()
        optimizer.zero_grad()
        stops = best.is_due(step) and not best.try_again(step, health)
        if stops or step % report_every == 0 or step == run.total_steps:
            loss_value = health.checked_loss()
            clock.tick(step)
            _report(run, step, loss_value, clock)
        if stops:
            break
    best.restore()
    # What one threshold over all layers prunes in each depends on the scores as they are now.
    run.sparse.set_sparsity(run.sparsity(step))
    return _cost(run, step, clock)


def _forward_backward(run: Run, accelerator: Accelerator) -> Tensor:
    """The gradients of one step; returns its loss, on the device."""
    total = torch.zeros((), device=run.model.device)
    whole = next(run.batches)
    for share in whole.split(run.hyper.accumulation):
        batch = share.to(run.model.device)
        loss = _loss(run, batch) * (len(share.rows) / len(whole.rows))
        accelerator.backward(loss)
        total += loss.detach()
    return total


def _loss(run: Run, batch: Batch) -> Tensor:
    half = run.hyper.precision == "bfloat16"
    with torch.autocast(run.model.device.type, dtype=torch.bfloat16, enabled=half):
        logits = run.task.logits(run.model, batch)
    loss = run.task.loss(logits, batch)
    if run.teacher_logits is None:
        return loss
    distance = run.task.distance(logits, run.teacher_logits[batch.rows])
    share = run.hyper.distillation
    return loss if distance is None else (1 - share) * loss + share * distance


def _optimizer(run: Run) -> AdamW:
    groups = [{"params": group.parameters, "lr": group.learning_rate} for group in run.groups]
    # Fused even on the CPU: the plain loops cost 1.4 times a whole step.
    return AdamW(groups, weight_decay=run.hyper.weight_decay, fused=True)


def _set_rates(run: Run, optimizer: torch.optim.Optimizer, step: int) -> None:
    factor = run.rate_factor(step)
    for group, planned in zip(optimizer.param_groups, run.groups, strict=True):
        group["lr"] = planned.learning_rate * factor


def _report(run: Run, step: int, loss: float, clock: "_Clock") -> None:
    run.report(
        StepReport(
            step=step,
            loss=loss,
            sparsity=run.sparsity(step),
            learning_rate=run.groups[0].learning_rate * run.rate_factor(step),
            step_seconds=statistics.median(clock.steps),
        )
    )


@dataclass(slots=True)
class _Clock:
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


class _Health:
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


class _Best:
    """Scores the model while it trains at the target sparsity, and keeps the best of it."""

    def __init__(self, run: Run, parameters: Sequence[nn.Parameter]) -> None:
        self._run = run
        self._parameters = parameters
        self._kept: list[Tensor] | None = None
        self._score = -math.inf
        self._misses = 0
        self._steps = self._validation_steps()

    def _validation_steps(self) -> frozenset[int]:
        """Evenly spaced over the steps at the target sparsity, the last one included."""
        run, wanted = self._run, self._run.hyper.validations
        held = run.hyper.final_hold if run.target_sparsity else 1.0
        span = max(1, int(held * run.total_steps))
        return frozenset(run.total_steps - span * index // wanted for index in range(wanted))

    def is_due(self, step: int) -> bool:
        return step in self._steps

    def try_again(self, step: int, health: _Health) -> bool:
        """Score the model; false where too many validations in a row were no better."""
        health.checked_loss()
        self._run.sparse.set_sparsity(self._run.sparsity(step))
        score = self._run.validate()
        if score > self._score:
            self._score, self._misses = score, 0
            if self._run.hyper.keep_best:
                self._kept = [parameter.detach().clone() for parameter in self._parameters]
        else:
            self._misses += 1
        return not self._run.hyper.patience or self._misses < self._run.hyper.patience

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, kept in zip(self._parameters, self._kept or (), strict=False):
            parameter.copy_(kept)


def _cost(run: Run, steps: int, clock: _Clock) -> Cost:
    return Cost(
        steps=steps,
        seconds=time.monotonic() - clock.started,
        step_seconds=statistics.median(clock.steps),
        peak_memory_bytes=peak_memory(run.model.device),
    )
