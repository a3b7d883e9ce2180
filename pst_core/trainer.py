"""The training loop. Which parameters train, and what becomes of the model, lies elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from pst_core.batches import Batch
from pst_core.best import Best
from pst_core.convert import Converted
from pst_core.memory import peak_memory
from pst_core.points import reached
from pst_core.random_state import random_numbers, random_tensors, restore_random
from pst_core.recipes import Hyperparameters
from pst_core.report import Cost
from pst_core.schedule import learning_rate_factor, sparsity_at
from pst_core.tasks import Task
from pst_core.training_state import (
    TrainingNumbers,
    TrainingState,
    names_of,
    optimizer_tensors,
    restore_optimizer,
    restore_parameters,
)
from pst_core.vitals import Clock, Health

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


class Keeper(Protocol):
    """Keeps what a run would need to go on."""

    def is_due(self) -> bool:
        """Whether some time has passed since the last time."""

    def keep(self, state: TrainingState) -> None:
        """Write it down; it is lost with the next step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training run.

    Args:
        model: In which exactly the parameters of `groups` require gradients.
        task: Gives the loss.
        sparse: Its sparse layers; none for dense training.
        groups: What trains, at which rates; that of the first group is reported.
        batches: At least as many as there are steps to come.
        total_steps: Optimizer steps.
        target_sparsity: Where the schedule ends.
        hyper: The rest of the recipe.
        teacher_logits: Of every example, on the model's device; None where nothing is distilled.
        validate: Scores the model as it is, higher is better; called for the recipe's validations.
        report: Told of some steps, the last one included.
        should_stop: Asked before each step.
        drawn: What was drawn at random and does not train, by name; it is kept with what does.
        begin: Where an earlier run was when it was kept; None for a run from its start.
        keeper: Told when it says so, when the run has to stop, and at its end.
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
    drawn: Mapping[str, Tensor] = field(default_factory=dict)
    begin: TrainingState | None = None
    keeper: Keeper | None = None

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

    def validation_steps(self) -> frozenset[int]:
        """Evenly spaced over the steps at the target sparsity, the last one included."""
        wanted = self.hyper.validations
        held = self.hyper.final_hold if self.target_sparsity else 1.0
        span = max(1, int(held * self.total_steps))
        return frozenset(self.total_steps - span * index // wanted for index in range(wanted))


def train(run: Run) -> Cost:
    """Train a model in place.

    Raises:
        NonFiniteLossError: The loss or a gradient became NaN or infinite; names the step.
        StopRequestedError: ``should_stop`` said so.
        SnapshotError: ``begin`` is of another model.
    """
    accelerator = Accelerator(
        cpu=run.model.device.type == "cpu",
        # Said outright, or variables of the environment would.
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    optimizer = accelerator.prepare(_optimizer(run))
    parameters = [p for group in run.groups for p in group.parameters]
    clock, health, best = Clock(), Health(run.model.device), Best(parameters, run.hyper)
    course = _Course(run, optimizer, clock, best)
    course.restore()
    report_every = min(max(1, run.total_steps // REPORTS), REPORT_EVERY)
    validated = run.validation_steps()
    step, last = course.begin, course.begin if course.is_over else run.total_steps
    run.model.train()
    for step in range(course.begin + 1, last + 1):
        course.pause(step - 1, health)
        run.sparse.set_sparsity(run.sparsity(step))
        loss = _forward_backward(run, accelerator)
        norm = accelerator.clip_grad_norm_(parameters, run.hyper.max_gradient_norm)
        health.watch(step, loss, norm)
        _set_rates(run, optimizer, step)
        optimizer.step()
        optimizer.zero_grad()
        stops = step in validated and not best.is_worth_more(_validate(run, step, health))
        if stops or step % report_every == 0 or step == run.total_steps:
            loss_value = health.checked_loss()
            clock.tick(step)
            _report(run, step, loss_value, clock)
        reached("train:step")
        if stops:
            break
    course.end(step)
    # What one threshold over all layers prunes in each depends on the scores as they are now.
    run.sparse.set_sparsity(run.sparsity(step))
    return _cost(run, step, clock)


class _Course:
    """Where a run began, and what is kept of it on its way."""

    def __init__(
        self, run: Run, optimizer: torch.optim.Optimizer, clock: Clock, best: Best
    ) -> None:
        self._run, self._optimizer, self._clock, self._best = run, optimizer, clock, best
        names = names_of(run.model, [p for group in run.groups for p in group.parameters])
        self._names = names
        numbers = run.begin and run.begin.numbers
        self.begin = numbers.step if numbers else 0
        self.is_over = numbers.is_over if numbers else False

    def restore(self) -> None:
        """Put model, optimizer and all that is random where they were when the run was kept."""
        state = self._run.begin
        if state is None:
            return
        model, tensors = self._run.model, state.tensors
        restore_parameters(self._kept(), tensors["parameters"])
        if not state.numbers.is_over:
            restore_optimizer(self._optimizer, self._names, tensors["optimizer"])
        best = tensors.get("best", {})
        self._best.go_on(
            state.numbers.best_score,
            state.numbers.misses,
            [best[name] for name in self._names if best],
        )
        self._clock.go_on(state.numbers.step, state.numbers.seconds, state.numbers.step_seconds)
        restore_random(state.numbers.random, tensors["random"], model.device)
        # The model and the optimizer have it all now.
        tensors.clear()

    def pause(self, step: int, health: Health) -> None:
        """Between two steps: keep the run if it is time to, or if it has to stop here."""
        stops, keeper = self._run.should_stop(), self._run.keeper
        # Where it began, it is on disk, or needs not be.
        if keeper is not None and step > self.begin and (stops or keeper.is_due()):
            health.checked_loss()
            keeper.keep(self._state(step, is_over=False))
        if stops:
            raise StopRequestedError

    def end(self, step: int) -> None:
        """After the last step: keep the run for whatever comes after it."""
        if self.is_over:
            return
        self._best.restore()
        if self._run.keeper is not None:
            self._run.keeper.keep(self._state(step, is_over=True))

    def _kept(self) -> dict[str, Tensor]:
        return {**self._names, **self._run.drawn}

    def _state(self, step: int, *, is_over: bool) -> TrainingState:
        run, best = self._run, self._best
        numbers = TrainingNumbers(
            step=step,
            is_over=is_over,
            seconds=self._clock.seconds(),
            step_seconds=tuple(self._clock.steps),
            best_score=best.score,
            misses=best.misses,
            peak_memory_bytes=_peak_memory(run),
            random=random_numbers(),
        )
        tensors: dict[str, Mapping[str, Tensor]] = {
            "parameters": self._kept(),
            "random": random_tensors(run.model.device),
        }
        if not is_over:
            tensors["optimizer"] = optimizer_tensors(self._optimizer, self._names)
            tensors["best"] = dict(zip(self._names, best.kept or (), strict=False))
        return TrainingState(numbers, tensors)


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


def _validate(run: Run, step: int, health: Health) -> float:
    health.checked_loss()
    run.sparse.set_sparsity(run.sparsity(step))
    return run.validate()


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


def _report(run: Run, step: int, loss: float, clock: Clock) -> None:
    run.report(
        StepReport(
            step=step,
            loss=loss,
            sparsity=run.sparsity(step),
            learning_rate=run.groups[0].learning_rate * run.rate_factor(step),
            step_seconds=clock.median(),
        )
    )


def _cost(run: Run, steps: int, clock: Clock) -> Cost:
    return Cost(
        steps=steps,
        seconds=clock.seconds(),
        step_seconds=clock.median(),
        peak_memory_bytes=_peak_memory(run),
    )


def _peak_memory(run: Run) -> int:
    before = run.begin.numbers.peak_memory_bytes if run.begin else 0
    return max(before, peak_memory(run.model.device))
