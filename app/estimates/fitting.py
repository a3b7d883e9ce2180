"""Whether a job fits into a device's memory, and the smallest change of it that would."""

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from app.estimates.schemas import Change
from pst_core.forecast import MemoryForecast, StageMemory
from pst_core.recipes import Hyperparameters
from pst_core.spec import CompressionSpec

Changed = dict[str, Any]

# Of a device's memory; the rest is for what fragments, and for who else is there.
USABLE = 0.9
# What a GPU's context takes beside what its allocator counts.
GPU_CONTEXT = 600_000_000
HALF = 0.75  # of the activations, in bfloat16


def usable(memory_bytes: int, kind: str) -> int:
    return int(USABLE * memory_bytes) - (GPU_CONTEXT if kind == "gpu" else 0)


def smallest_change(spec: CompressionSpec, memory: MemoryForecast, limit: int) -> Change | None:
    """What to change of a job that does not fit; None where no change of these would do.

    First what changes no result: more shares of a batch, the fewest that do. Then no splices, whose
    answers take memory, then half precision, then both, then a training without the dense baseline.
    """
    for changed, peak in _changes(spec, memory):
        if peak <= limit:
            return Change(
                hyperparameters=changed.get("hyperparameters", {}),
                baseline=changed.get("baseline"),
                peak_memory_bytes=peak,
            )
    return None


def _changes(spec: CompressionSpec, memory: MemoryForecast) -> Iterator[tuple[Changed, int]]:
    hyper = spec.resolved_hyperparameters()
    shares = [
        number
        for number in range(hyper.accumulation + 1, min(hyper.batch_size, 1024) + 1)
        if hyper.batch_size % number == 0
    ]
    for number in shares:
        changed: Changed = {"hyperparameters": {"accumulation": number}}
        yield changed, _peak(memory, _scale(hyper, number))
    most = shares[-1] if shares else hyper.accumulation
    precisions: list[tuple[Changed, float]] = [({}, 1.0)]
    if hyper.precision == "float32":
        precisions.append(({"precision": "bfloat16"}, HALF))
    splices: list[tuple[Changed, float]] = [({}, 1.0)]
    if hyper.splices:
        splices.append(({"splices": 0}, 1 / (1 + hyper.splices * hyper.splice_epochs)))
    # The first of them changes neither.
    for (precision, half), (spliced, answered) in islice(product(precisions, splices), 1, None):
        yield (
            {"hyperparameters": {"accumulation": most, **precision, **spliced}},
            _peak(memory, half * _scale(hyper, most), answered),
        )
    if spec.baseline == "train" and spec.max_drop is None:
        yield (
            {"baseline": "none", "hyperparameters": {"accumulation": most}},
            _peak(memory.model_copy(update={"baseline": None}), _scale(hyper, most), 0.0),
        )


def _scale(hyper: Hyperparameters, accumulation: int) -> float:
    """How large a share of the batch is, of what it is now."""
    now = -(-hyper.batch_size // hyper.accumulation)
    return -(-hyper.batch_size // accumulation) / now


def _peak(memory: MemoryForecast, scale: float, answered: float = 1.0) -> int:
    """With other activations and answers, as shares of what they are now."""
    return max(_total(stage, scale, answered) for stage in memory.stages.values())


def _total(stage: StageMemory, scale: float, answered: float) -> int:
    fixed = stage.total - stage.activations - stage.answers
    return fixed + int(scale * stage.activations) + int(answered * stage.answers)
