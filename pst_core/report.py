"""The outcome of a compression, as data: metrics, sparsity counted, sizes, cost. Free of torch.

Measuring is done where things happen; drawing tables is done by whoever shows them.
"""

import math
from typing import Annotated

from pydantic import Field

from pst_core.spec import CompressionSpec, Hyperparameters, Strict

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Z_95 = 1.959963984540054


class Accuracy(Strict):
    """Correct answers of all, with the 95 % Wilson score interval (Wilson 1927)."""

    correct: Count
    total: Count
    value: Share
    low: Share
    high: Share
    majority: Share
    """What always answering the most frequent class would score."""

    @classmethod
    def of(cls, *, correct: int, total: int, majority: float) -> "Accuracy":
        low, high = wilson_interval(correct, total)
        return cls(
            correct=correct, total=total, value=correct / total, low=low, high=high,
            majority=majority,
        )  # fmt: skip


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a proportion: (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)."""
    share, z2_n = correct / total, Z_95**2 / total
    centre = share + z2_n / 2
    reach = Z_95 * math.sqrt(share * (1 - share) / total + z2_n / (4 * total))
    low, high = ((centre + sign * reach) / (1 + z2_n) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


class Evaluation(Strict):
    validation: Accuracy | None
    test: Accuracy


class PrunedMatrix(Strict):
    """One pruned weight: its key in the state dict, O × I, and how many entries the mask zeroes."""

    name: str
    shape: tuple[int, int]
    pruned: Count


class Cost(Strict):
    """What a training run took; differs from one run to the next."""

    steps: Count
    seconds: Annotated[float, Field(ge=0)]
    step_seconds: Annotated[float, Field(ge=0)]
    """Median."""
    peak_memory_bytes: Count
    """Of the process; on a GPU, of the device's allocator."""


class DataSummary(Strict):
    sha256: str
    """Over the rows of each split, in order."""
    labels: tuple[str, ...]
    rows: dict[str, int]


class Outcome(Strict):
    """What came out. The same spec, data, seed and libraries give the same, to the last bit."""

    spec: CompressionSpec
    hyperparameters: Hyperparameters
    evaluation: Evaluation
    baseline: Evaluation | None
    """The dense yardstick; null means: not measured."""
    sparsity: Share
    """Zeros counted in the masks, of all entries of the pruned matrices."""
    sparsity_overall: Share
    """The same zeros, of all parameters of the model."""
    matrices: tuple[PrunedMatrix, ...]
    parameters: Count
    trainable_parameters: Count
    bytes: dict[str, int]
    """Of the weights, by format."""
    data: DataSummary
    versions: dict[str, str]


class Report(Strict):
    outcome: Outcome
    cost: Cost
    baseline_cost: Cost | None
