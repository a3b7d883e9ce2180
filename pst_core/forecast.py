"""What a compression will take, as data: parameters, steps, memory, sizes, work. Free of torch.

Worked out by estimate/, without the weights; what it means for a device is worked out by who asks.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from pst_core.fields import Count, Share, Strict
from pst_core.spec import Format

DeviceKind = Literal["cpu", "gpu"]
Number = Annotated[float, Field(ge=0)]


class DeviceClass(Strict):
    """Devices that take the same time for the same work, as far as is known."""

    kind: DeviceKind
    name: Annotated[str, Field(max_length=200)]
    """Of the processor or the GPU."""
    threads: Annotated[int, Field(ge=1)]
    """That torch computes with, on the CPU."""
    memory_bytes: Count | None = None
    """That a trainer may use; null: not known."""

    @property
    def key(self) -> str:
        """The same for devices whose times can be compared."""
        return f"{self.kind}:{self.name}:{self.threads if self.kind == 'cpu' else 1}"


class DataForecast(Strict):
    """Of the training split, as the model will see it; null: the data could not be read here."""

    rows: dict[str, Count] | None
    """By split."""
    examples: Count | None
    """Of the training split: its rows, or for causal-lm its blocks."""
    labels: Count
    longest: Count
    """Tokens of the longest example."""
    tokens_per_step: Number
    """Of a batch with its padding, on average."""
    sampled: bool
    """Whether lengths, and for causal-lm the number of blocks, are those of a sample of rows."""


class StageMemory(Strict):
    """The most bytes that one stage has in use at once, by what they are for."""

    process: Count
    """The interpreter and its libraries; 0 on a GPU, which counts none."""
    weights: Count
    added: Count
    """Factors, scores, masks and masked weights."""
    gradients: Count
    optimizer: Count
    activations: Count
    """What the forward keeps for the backward, of one share of the batch."""
    scratch: Count
    """What is computed on the way: of the largest matrix, and of the largest activations."""
    answers: Count = 0
    """Of the dense baseline, to all that it teaches."""

    @property
    def total(self) -> int:
        return sum(self.model_dump().values())


class MemoryForecast(Strict):
    loading: StageMemory
    baseline: StageMemory | None
    """Null: none is trained."""
    training: StageMemory
    exporting: StageMemory
    verifying: StageMemory

    @property
    def stages(self) -> Mapping[str, StageMemory]:
        names = ("loading", "baseline", "training", "exporting", "verifying")
        return {name: stage for name in names if (stage := getattr(self, name)) is not None}

    @property
    def trained(self) -> int:
        """The most while anything trains, which reports tell as well."""
        return max(stage.total for stage in (self.training, self.baseline) if stage is not None)

    @property
    def besides(self) -> int:
        """The most while nothing does."""
        return max(stage.total for stage in (self.loading, self.exporting, self.verifying))

    @property
    def peak(self) -> int:
        return max(stage.total for stage in self.stages.values())


class SizeForecast(Strict):
    """Of the weights in one format."""

    bytes: Count | None
    """Null: only the finished model can tell."""
    basis: Literal["exact", "entropy", "unknown"]


class WorkForecast(Strict):
    """Floating-point operations."""

    step: Number
    """Of one training step of the average batch."""
    baseline_step: Number
    evaluation: Number
    """Of all scores on the validation and test splits, of all stages and of the verification; and
    of what the baseline answers for the main stage to learn from."""


class Forecast(Strict):
    model_type: str
    parameters: Count
    trainable_parameters: Count
    matrices: Count
    """That are pruned."""
    entries: Count
    """Of those."""
    kept: Count
    sparsity_overall: Share
    data: DataForecast
    steps: Count | None
    """Null: the size of the data is not known."""
    baseline_steps: Count | None
    memory: dict[DeviceKind, MemoryForecast]
    bytes: dict[Format, SizeForecast]
    work: WorkForecast
    assumed: tuple[str, ...]
    """What was not known, and what was taken for it."""
    computed_on: DeviceClass
