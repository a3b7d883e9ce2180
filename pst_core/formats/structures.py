"""Where the heads and neurons of each block lie in the tensors of a checkpoint, by model type.

Which of them do nothing is found by idle.py; compact.py takes them out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """y = down(act(up x)), or down(act(gate x) · up x).

    Attributes:
        up: The linear layer's name in its block, as the others. One that is `gate` as well holds
            both, gate first.
        size: The configuration's key for the number of neurons.
        activation: Its key for the function.
    """

    up: str
    down: str
    size: str
    activation: str
    gate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Names of linear layers in a block.

    Attributes:
        value: One that is `query` as well holds query, key and value.
        by_head: Whether it holds them head by head, not one matrix below the other.
        resizable: Whether the configuration can say that there are fewer heads than the width has
            room for: it has `head_dim`.
    """

    query: str
    key: str
    value: str
    out: str
    by_head: bool = False
    resizable: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """How blocks look; of several feed-forward layers the first one that a model has."""

    feed_forward: tuple[FeedForward, ...]
    attention: Attention
    transposed: bool = False


_BERT_NEURONS = FeedForward(
    up="intermediate.dense",
    down="output.dense",
    size="intermediate_size",
    activation="hidden_act",
)
_BERT = Family(
    (_BERT_NEURONS,),
    Attention(
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        out="attention.output.dense",
    ),
)
_MPNET = Family(
    (_BERT_NEURONS,),
    Attention(
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        out="attention.attn.o",
    ),
)
_DISTILBERT = Family(
    (FeedForward(up="ffn.lin1", down="ffn.lin2", size="hidden_dim", activation="activation"),),
    Attention(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        out="attention.out_lin",
    ),
)


def _fused(name: str, out: str, *, by_head: bool = False, resizable: bool = False) -> Attention:
    return Attention(
        query=name, key=name, value=name, out=out, by_head=by_head, resizable=resizable
    )


def _projected(out: str, *, resizable: bool = False) -> Attention:
    query, key, value = (f"self_attn.{letter}_proj" for letter in "qkv")
    return Attention(query=query, key=key, value=value, out=out, resizable=resizable)


_GPT2 = Family(
    (
        FeedForward(
            up="mlp.c_fc", down="mlp.c_proj", size="n_inner", activation="activation_function"
        ),
    ),
    _fused("attn.c_attn", "attn.c_proj"),
    transposed=True,
)
_OPT = Family(
    (FeedForward(up="fc1", down="fc2", size="ffn_dim", activation="activation_function"),),
    _projected("self_attn.out_proj"),
)
_GPT_NEOX = Family(
    (
        FeedForward(
            up="mlp.dense_h_to_4h",
            down="mlp.dense_4h_to_h",
            size="intermediate_size",
            activation="hidden_act",
        ),
    ),
    _fused("attention.query_key_value", "attention.dense", by_head=True),
)


def _gated(gate: str, up: str, down: str, activation: str = "hidden_act") -> FeedForward:
    return FeedForward(gate=gate, up=up, down=down, size="intermediate_size", activation=activation)


def _llama(activation: str) -> Family:
    return Family(
        (_gated("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", activation),),
        _projected("self_attn.o_proj", resizable=True),
    )


_PHI3 = Family(
    (_gated("mlp.gate_up_proj", "mlp.gate_up_proj", "mlp.down_proj"),),
    _fused("self_attn.qkv_proj", "self_attn.o_proj", resizable=True),
)
_MODERNBERT = Family(
    (_gated("mlp.Wi", "mlp.Wi", "mlp.Wo", "hidden_activation"),), _fused("attn.Wqkv", "attn.Wo")
)
# All layers share the position biases of the first one's heads, so that no head can go.
_T5 = Family(
    (
        FeedForward(
            up="DenseReluDense.wi",
            down="DenseReluDense.wo",
            size="d_ff",
            activation="dense_act_fn",
        ),
        FeedForward(
            gate="DenseReluDense.wi_0",
            up="DenseReluDense.wi_1",
            down="DenseReluDense.wo",
            size="d_ff",
            activation="dense_act_fn",
        ),
    ),
    Attention(
        query="SelfAttention.q",
        key="SelfAttention.k",
        value="SelfAttention.v",
        out="SelfAttention.o",
    ),
)

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _BERT),
    "distilbert": _DISTILBERT,
    "mpnet": _MPNET,
    "modernbert": _MODERNBERT,
    "gpt2": _GPT2,
    "gpt_neox": _GPT_NEOX,
    "opt": _OPT,
    "t5": _T5,
    **dict.fromkeys(
        ("gemma", "llama", "mistral", "qwen2", "qwen3", "smollm3"), _llama("hidden_act")
    ),
    **dict.fromkeys(("gemma2", "gemma3_text"), _llama("hidden_activation")),
    "phi3": _PHI3,
}


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
