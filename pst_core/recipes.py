"""Every number of a training recipe, and the presets: what they change of the defaults.

Free of torch. What the numbers do is decided by who trains.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from pst_core.fields import Flag, Float, Integer, Rate, Share, Strict

Precision = Literal["float32", "bfloat16"]
Preset = Literal["default", "paper", "paper-released"]
Count = Annotated[int, Integer(ge=0, le=1_000_000)]


class Hyperparameters(Strict):
    """Every number of the recipe; the defaults are the preset `paper`."""

    epochs: Annotated[Float, Field(gt=0, le=1000)] = 3.0
    batch_size: Annotated[int, Integer(ge=1, le=4096)] = 32
    """Examples a step, own and spliced ones alike."""
    accumulation: Annotated[int, Integer(ge=1, le=1024)] = 1
    """Forwards and backwards a step, each on a share of the batch; saves memory, costs time."""
    max_length: Annotated[int, Integer(ge=4, le=8192)] = 128
    """Tokens; longer texts are cut, and the text of causal-lm is cut into such blocks."""
    learning_rate: Rate = 5e-4
    """Of V and, divided by rate_ratio, of U (method `pst`)."""
    adapter_learning_rate: Rate = 5e-4
    """Of the adapters of the method `lora`."""
    score_learning_rate: Rate = 5e-4
    """Of B, R, C and, divided by rate_ratio, of A; of the scores of the method `movement`."""
    rate_ratio: Annotated[Float, Field(ge=1, le=1e6)] = 1.0
    """How many times faster the factors that start at zero learn than U and A, which start at
    random (LoRA+, Hayou et al. 2024, arXiv 2402.12354)."""
    score_travel: Annotated[Float, Field(gt=0, le=1e6)] | None = None
    """The most that the scores' rates of all steps may sum to: it bounds how far a learned score
    can move from |W'|, however long the run. Null: no bound."""
    head_learning_rate: Rate = 1e-3
    norm_learning_rate: Rate = 5e-4
    """Of biases and norms, where they train."""
    dense_learning_rate: Rate = 5e-5
    """Of all weights but the head's, where they are trained: method and baseline `dense`, and
    `magnitude`, `movement`, `random`."""
    weight_decay: Annotated[Float, Field(ge=0, le=1)] = 0.0
    learning_rate_warmup: Annotated[Float, Field(ge=0, lt=1)] = 0.06
    """Share of the steps over which the rates rise, before they fall to zero."""
    learning_rate_decay: Literal["linear", "cosine"] = "linear"
    """How the rates fall."""
    max_gradient_norm: Annotated[Float, Field(gt=0, le=1e6)] = 1.0
    dropout: Share | None = None
    """Of the model while it is made sparse; null: what its configuration says."""
    rank: Annotated[int, Integer(ge=1, le=1024)] = 8
    """Rank of U V, the weight update; of the adapters of the method `lora`."""
    score_rank: Annotated[int, Integer(ge=1, le=1024)] = 8
    """Rank of A B in the importance score."""
    alpha1: Annotated[Float, Field(ge=0, le=1e3)] = 1.0
    """Weight of A B in the importance score."""
    alpha2: Annotated[Float, Field(ge=0, le=1e3)] = 1.0
    """Weight of R + C in the importance score."""
    beta: Annotated[Float, Field(ge=0, le=1e3)] = 1.0
    """Weight of U V in the updated weight."""
    relative: Flag = False
    """Whether alpha1, alpha2 and beta count in the standard deviation of the pretrained matrices,
    those of A B and U V divided by √rank, so that one rate suits all models and ranks."""
    initial_warmup: Annotated[Float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps before the sparsity starts to rise."""
    final_hold: Annotated[Float, Field(ge=0, lt=1, validate_default=True)] = 0.3
    """Share of the steps trained at the target sparsity."""
    train_head: Flag = True
    """Whether a task head that starts at random trains (method `pst`; all others train it)."""
    train_biases_and_norms: Flag = False
    """Whether the biases and norms of the frozen model train (method `pst`)."""
    distillation: Share = 0.0
    """Weight of the distance to the dense baseline's logits in the loss; the task's loss has the
    rest. It needs `baseline: train`."""
    distillation_temperature: Annotated[Float, Field(gt=0, le=100)] = 2.0
    splices: Annotated[int, Integer(ge=0, le=4)] = 0
    """How many examples spliced of two, with the dense baseline's answer, there are for each own
    one, in epochs as much longer: a model learns from them what the baseline would say beyond the
    training split. It needs distillation."""
    splice_sets: Annotated[int, Integer(ge=1, le=100)] = 1
    """How many epochs splice anew; later ones have those splices in turn. The baseline answers each
    of them before the sparse training begins."""
    validations: Count = 0
    """How often the validation split is scored while training at the target sparsity."""
    patience: Count = 0
    """Stop early after so many validations without a better score; 0: never."""
    keep_best: Flag = False
    """Keep the weights of the best validation rather than the last."""
    calibration_rows: Annotated[int, Integer(ge=1, le=100_000)] = 128
    """Examples of the training split that the method `wanda` sees."""
    beams: Annotated[int, Integer(ge=1, le=64)] = 5
    """Of the beam search that writes completions for evaluation."""
    max_new_tokens: Annotated[int, Integer(ge=1, le=8192)] = 64
    """Of each such completion."""
    precision: Precision = "float32"
    """Of the matrix products; the factors, scores and masks are always float32."""

    @property
    def splice_epochs(self) -> int:
        """How many epochs there are that splice anew."""
        return min(math.ceil(self.epochs), self.splice_sets)

    @field_validator("accumulation")
    @classmethod
    def _divides_the_batch(cls, accumulation: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size", accumulation)
        if batch_size % accumulation:
            raise ValueError(f"must divide batch_size, which is {batch_size}")
        return accumulation

    @field_validator("final_hold")
    @classmethod
    def _leaves_room_to_rise(cls, hold: float, info: ValidationInfo) -> float:
        warmup = info.data.get("initial_warmup", 0.0)
        if warmup + hold >= 1:
            raise ValueError(
                f"initial_warmup + final_hold is {warmup + hold:g}: it must be below 1, so that "
                "some steps are left for the sparsity to rise"
            )
        return hold

    @field_validator("patience", "keep_best")
    @classmethod
    def _needs_validations(cls, value: int, info: ValidationInfo) -> int:
        if value and not info.data.get("validations"):
            raise ValueError("needs validations to be more than 0")
        return value


# Presets are what they change of the defaults above.
PRESETS: dict[Preset, dict[str, float | int | str | bool]] = {
    # Li et al. 2022, with the randomly initialised task head trained.
    "paper": {},
    # As the authors' scripts run: nothing trains but the six factors.
    "paper-released": {"train_head": False},
    # Ours: docs/method.md tells why.
    "default": {
        "relative": True,
        "learning_rate": 0.012,
        "score_learning_rate": 0.008,
        "score_travel": 3.4,
        "alpha1": 3.0,
        "rate_ratio": 16.0,
        "initial_warmup": 0.05,
        "final_hold": 0.4,
        "train_biases_and_norms": True,
        # Why these five: docs/decisions/0027.
        "distillation": 0.9,
        "rank": 32,
        "splices": 1,
        "splice_sets": 4,
        "dropout": 0.0,
    },
}
