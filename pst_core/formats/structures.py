"""Where the heads and neurons of each block lie in the tensors of a checkpoint.

What its matrices are called is known to block_names.py; which units do nothing is found by idle.py.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig

from pst_core.formats.block_names import Attention, Family, FeedForward

Indices: TypeAlias = NDArray[np.int64]
Role = Literal["gate", "up", "query", "key", "value"]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Where a linear layer has its units: `count` rows each, `step` apart, from `first` on."""

    linear: str
    first: int
    step: int
    count: int

    def of(self, units: Indices) -> Indices:
        return (self.first + units[:, None] * self.step + np.arange(self.count)).reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The neurons of one feed-forward layer, or the heads of one attention layer.

    Attributes:
        name: What the names of its linear layers begin with.
        units: Neurons; of heads those groups that share a key and a value.
        heads: Query heads in each unit; 1 for neurons.
        inputs: The rows that make a unit, by what they are to it.
        output: The columns of the linear layer that takes it up, as if they were rows.
        transposed: Whether matrices are stored in × out, as GPT-2's.
        activation: The name of the function of a feed-forward layer; empty for attention.
    """

    name: str
    units: int
    heads: int
    inputs: Mapping[Role, Rows]
    output: Rows
    transposed: bool
    activation: str


def feed_forward_of(family: Family, shapes: Shapes) -> FeedForward:
    """The feed-forward layer that a checkpoint of the family has."""
    for found in family.feed_forward:
        if next(_block_names(shapes, found.up), None):
            return found
    return family.feed_forward[0]


def neuron_layers(family: Family, config: PreTrainedConfig, shapes: Shapes) -> list[Layer]:
    """The feed-forward layers, by the shapes of the tensors in the files."""
    form = feed_forward_of(family, shapes)
    layers = []
    for name in _block_names(shapes, form.down):
        size = shapes[f"{name}.{form.down}.weight"][0 if family.transposed else 1]
        inputs: dict[Role, Rows] = {"up": Rows(form.up, 0, 1, 1)}
        if form.gate:
            above = size if form.gate == form.up else 0
            inputs = {"gate": Rows(form.gate, 0, 1, 1), "up": Rows(form.up, above, 1, 1)}
        layers.append(
            Layer(
                name=name,
                units=size,
                heads=1,
                inputs=inputs,
                output=Rows(form.down, 0, 1, 1),
                transposed=family.transposed,
                activation=getattr(config, form.activation),
            )
        )
    return layers


def head_layers(family: Family, config: PreTrainedConfig, shapes: Shapes) -> list[Layer]:
    """The attention layers, by the shapes of the tensors in the files."""
    form = family.attention
    heads = config.num_attention_heads
    units = getattr(config, "num_key_value_heads", None) or heads
    layers = []
    for name in _block_names(shapes, form.out):
        width = shapes[f"{name}.{form.out}.weight"][0 if family.transposed else 1]
        size = width // heads
        layers.append(
            Layer(
                name=name,
                units=units,
                heads=heads // units,
                inputs=_attention_rows(form, heads * size, units * size, size),
                output=Rows(form.out, 0, width // units, width // units),
                transposed=family.transposed,
                activation="",
            )
        )
    return layers


def _attention_rows(form: Attention, width: int, shared: int, size: int) -> dict[Role, Rows]:
    """The rows of query, key and value, which are `width`, `shared` and `shared` in number."""
    if form.by_head:
        step = 3 * size
        return {
            "query": Rows(form.query, 0, step, size),
            "key": Rows(form.key, size, step, size),
            "value": Rows(form.value, 2 * size, step, size),
        }
    group = width * size // shared
    fused = form.query == form.value
    return {
        "query": Rows(form.query, 0, group, group),
        "key": Rows(form.key, width if fused else 0, size, size),
        "value": Rows(form.value, width + shared if fused else 0, size, size),
    }


def _block_names(names: Iterable[str], linear: str) -> Iterator[str]:
    """The blocks that have such a linear layer, in the order of their numbers."""
    pattern = re.compile(rf"(.*\.\d+|\d+)\.{re.escape(linear)}\.weight")
    found = (match[1] for match in map(pattern.fullmatch, names) if match)
    yield from sorted(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
