"""The outcome of a compression, as data: metrics, sparsity counted, sizes, cost. Free of torch.

Measuring is done where things happen; drawing tables is done by whoever shows them.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pst_core.benefit_report import Benefit
from pst_core.fields import Count, Share, Strict
from pst_core.forecast import DeviceClass
from pst_core.recipes import Hyperparameters
from pst_core.spec import CompressionSpec


class Estimate(Strict):
    """A metric with its 95 % bootstrap confidence interval; null bounds: none is known for it."""

    value: float
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _the_interval_holds_the_value(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high come together: give both or neither")
        if self.low is None or self.high is None:
            return self
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} is not within {self.low} to {self.high}")
        return self


class Scores(Strict):
    """A model on the rows of one split."""

    primary: str
    """The metric the task is judged by."""
    metrics: dict[str, Estimate]
    rows: Count
    constant: float | None
    """What the best constant answer scores on the primary metric; null: there is no such thing."""

    @model_validator(mode="after")
    def _the_primary_metric_is_measured(self) -> Self:
        if self.primary not in self.metrics:
            raise ValueError(f"primary metric {self.primary!r} is not among the metrics")
        return self

    @property
    def estimate(self) -> Estimate:
        """The primary metric with its interval."""
        return self.metrics[self.primary]

    @property
    def value(self) -> float:
        """The primary metric."""
        return self.estimate.value


class Evaluation(Strict):
    validation: Scores | None
    test: Scores


class VarianceShares(Strict):
    """Of the variance of an importance score, the share of each of its three terms."""

    weight: Share
    """Of |W'|, the magnitude of the updated weight."""
    low_rank: Share
    """Of α1 · A B."""
    row_column: Share
    """Of α2 · (R + C)."""


class PrunedMatrix(Strict):
    """One pruned weight: its key in the state dict, and how many entries the mask zeroes."""

    name: str
    shape: tuple[int, int]
    """As stored."""
    pruned: Count
    parts: tuple[int, ...]
    """Along the output dimension, the lengths of the matrices fused in it; one: not fused."""
    output_axis: Literal[0, 1] = 0
    """Which dimension of the shape is the output's; 1 for GPT-2's Conv1D, stored in × out."""


class Cost(Strict):
    """What a training run took; differs from one run to the next."""

    steps: Count
    seconds: Annotated[float, Field(ge=0)]
    step_seconds: Annotated[float, Field(ge=0)]
    """Median."""
    peak_memory_bytes: Count
    """Of this stage, the model included: of the process; on a GPU, of the device's allocator."""


class CurvePoint(Strict):
    """One reported step of a run."""

    step: Count
    loss: float
    sparsity: Share
    mask_churn: Share | None
    """Share of the masks' entries that changed since it was last measured; null: not looked."""


class Gate(Strict):
    """What the spec's `max_drop` asked of the primary metric on the test split, and what came."""

    limit: Annotated[float, Field(ge=0)]
    drop: float
    """How much worse than the baseline it is, in the unit of the limit; below 0: better."""
    passed: bool


class DataSummary(Strict):
    sha256: str
    """Over the rows of each split, in order."""
    labels: tuple[str, ...]
    rows: dict[str, int]
    columns: dict[str, str] = Field(default_factory=dict)
    """The column of each role that was read; none: the report is older than they are told."""


class Outcome(Strict):
    """What came out.

    On the CPU the same spec, data, seed, libraries and threads give the same, to the last bit.
    """

    spec: CompressionSpec
    hyperparameters: Hyperparameters
    evaluation: Evaluation
    baseline: Evaluation | None
    """The dense yardstick; null means: not measured."""
    difference: Estimate | None
    """The primary metric on the test split minus the baseline's, paired; null: no baseline."""
    gate: Gate | None = None
    """Null: no `max_drop` was asked."""
    sparsity: Share
    """Zeros counted in the masks, of all entries of the pruned matrices."""
    sparsity_overall: Share
    """The same zeros, of all parameters of the model."""
    matrices: tuple[PrunedMatrix, ...]
    skipped: dict[str, str]
    """Why other layers with matrices were not pruned, by their name."""
    score_variance: VarianceShares | None
    """What decided which entries went; null where no scores are learned."""
    parameters: Count
    trainable_parameters: Count
    bytes: dict[str, int]
    """Of the weights, by format."""
    refused: dict[str, str]
    """Why a format that was asked for could not be made, by format."""
    data: DataSummary
    versions: dict[str, str]


class Report(Strict):
    outcome: Outcome
    cost: Cost
    baseline_cost: Cost | None
    benefit: Benefit | None = None
    """What the formats gain in speed on the machine that made them; null: not measured."""
    curve: tuple[CurvePoint, ...]
    device: DeviceClass | None = None
    """Where it was trained; null: a release before this one did not say."""
