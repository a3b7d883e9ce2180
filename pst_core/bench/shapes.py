"""Which models, batches and methods are measured. Free of torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from pst_core.errors import PstError

Contender = Literal["dense", "pst", "lora", "movement"]
Clock = Literal["wall", "cpu"]

# All others are measured against the first.
CONTENDERS: tuple[Contender, ...] = get_args(Contender)
CLOCKS: tuple[Clock, ...] = get_args(Clock)
LENGTH, LONG = 32, 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A BERT that classifies texts."""

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int = 30522


SHAPES = {
    "minilm": Shape(layers=6, width=384, inner=1536, heads=12),
    "bert-base": Shape(layers=12, width=768, inner=3072, heads=12),
    "tiny": Shape(layers=2, width=32, inner=64, heads=2, vocabulary=64),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is trained, and how long.

    Args:
        model: A key of `SHAPES`.
        tokens: Of a batch: short texts, or long ones where there are 4096 or more.
        rounds: Steps of each method that are measured.
        dropout: Of hidden states and attention.
        device: Where, as torch names it.
    """

    model: str
    tokens: int
    rounds: int
    dropout: float
    device: str

    def __post_init__(self) -> None:
        if self.model not in SHAPES:
            raise PstError(f"{self.model} is none of {', '.join(SHAPES)}.", field="--model")
        if self.tokens < 1 or self.tokens % self.length:
            raise PstError(f"{self.tokens} is not a multiple of {self.length}.", field="--tokens")
        if self.rounds < 1:
            raise PstError(f"{self.rounds} rounds measure nothing.", field="--rounds")

    @property
    def shape(self) -> Shape:
        return SHAPES[self.model]

    @property
    def length(self) -> int:
        return LONG if self.tokens >= LONG * LENGTH else LENGTH


def contenders(names: str) -> tuple[Contender, ...]:
    """Those of a comma-separated list, and always dense fine-tuning, first."""
    asked = set(names.split(","))
    if unknown := asked - set(CONTENDERS):
        raise PstError(
            f"{', '.join(sorted(unknown))} is none of {', '.join(CONTENDERS)}.", field="--methods"
        )
    return tuple(name for name in CONTENDERS if name in asked or name == "dense")
