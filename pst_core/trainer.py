"""The training loop. Which parameters train, and what becomes of the model, lies elsewhere."""

import math
import resource
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from pst_core.batches import Batch
from pst_core.convert import head_parameters, set_sparsity
from pst_core.errors import NonFiniteLossError
from pst_core.layers import PSTLinear
from pst_core.report import Cost
from pst_core.schedule import learning_rate_factor, sparsity_at
from pst_core.spec import Hyperparameters

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training run.

    Args:
        model: In which exactly the parameters to train require gradients.
        layers: Its PST layers; none for dense training.
        batches: At least ``total_steps`` of them.
        total_steps: Optimizer steps.
        target_sparsity: Where the schedule ends.
        learning_rate: Of the parameters outside the head.
        hyperparameters: The rest of the recipe.
        report: Told of some steps, the last one included.
        should_stop: Asked before each step.
    """

    model: PreTrainedModel
    layers: Mapping[str, PSTLinear]
    batches: Iterator[Batch]
    total_steps: int
    target_sparsity: float
    learning_rate: float
    hyperparameters: Hyperparameters
    report: Callable[[StepReport], None]
    should_stop: Callable[[], bool]


@dataclass(slots=True)
class _Clock:
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    # The latest alone: a run of a million steps takes its median every few of them.
    steps: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def tick(self) -> None:
        now = time.monotonic()
        self.steps.append(now - self.last)
        self.last = now


def train(run: Run) -> Cost:
    """Train a model in place.

    Raises:
        NonFiniteLossError: The loss became NaN or infinite; names the step.
        StopRequestedError: ``should_stop`` said so.
    """
    optimizer, base_rates = _optimizer(run)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    clock = _Clock()
    report_every = min(max(1, run.total_steps // REPORTS), REPORT_EVERY)
    run.model.train()
    for step in range(1, run.total_steps + 1):
        if run.should_stop():
            raise StopRequestedError
        sparsity = _sparsity(run, step)
        set_sparsity(run.layers, sparsity)
        loss = _loss(run, next(run.batches).to(run.model.device))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, run.hyperparameters.max_gradient_norm)
        loss_value = _finite(loss, norm, step)
        rate = _set_learning_rates(run, optimizer, base_rates, step)
        optimizer.step()
        optimizer.zero_grad()
        clock.tick()
        if step % report_every == 0 or step == run.total_steps:
            run.report(
                StepReport(
                    step=step,
                    loss=loss_value,
                    sparsity=sparsity,
                    learning_rate=rate,
                    step_seconds=statistics.median(clock.steps),
                )
            )
    return _cost(run, clock)


def _sparsity(run: Run, step: int) -> float:
    return sparsity_at(
        step,
        run.total_steps,
        target=run.target_sparsity,
        initial_warmup=run.hyperparameters.initial_warmup,
        final_hold=run.hyperparameters.final_hold,
    )


def _loss(run: Run, batch: Batch) -> Tensor:
    half = run.hyperparameters.precision == "bfloat16"
    with torch.autocast(run.model.device.type, dtype=torch.bfloat16, enabled=half):
        logits_BC = run.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return nn.functional.cross_entropy(logits_BC.float(), batch.labels)


def _finite(loss: Tensor, gradient_norm: Tensor, step: int) -> float:
    value, norm = loss.item(), gradient_norm.item()
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NonFiniteLossError(
            f"Training diverged at step {step}: loss {value}, gradient norm {norm}.",
            field="hyperparameters.learning_rate",
            remedy="Lower the learning rates, or raise learning_rate_warmup.",
        )
    return value


def _optimizer(run: Run) -> tuple[AdamW, tuple[float, float]]:
    head = {id(parameter) for parameter in head_parameters(run.model).values()}
    trainable = [p for p in run.model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in head]},
        {"params": [p for p in trainable if id(p) in head]},
    ]
    optimizer = AdamW(groups, weight_decay=run.hyperparameters.weight_decay, fused=True)
    return optimizer, (run.learning_rate, run.hyperparameters.head_learning_rate)


def _set_learning_rates(
    run: Run, optimizer: AdamW, base_rates: tuple[float, float], step: int
) -> float:
    factor = learning_rate_factor(
        step, run.total_steps, warmup=run.hyperparameters.learning_rate_warmup
    )
    for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
        group["lr"] = rate * factor
    return base_rates[0] * factor


def _cost(run: Run, clock: _Clock) -> Cost:
    return Cost(
        steps=run.total_steps,
        seconds=time.monotonic() - clock.started,
        step_seconds=statistics.median(clock.steps),
        peak_memory_bytes=_peak_memory(run.model.device),
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
