"""What the linear layers of attention and feed-forward are called, by model type.

Where the heads and neurons lie in them is worked out by structures.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass


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


def _plain(up: str, down: str, size: str, activation: str) -> FeedForward:
    return FeedForward(up=up, down=down, size=size, activation=activation)


def _gated(gate: str, up: str, down: str, activation: str = "hidden_act") -> FeedForward:
    return FeedForward(gate=gate, up=up, down=down, size="intermediate_size", activation=activation)


def _attention(names: Sequence[str], out: str, *, resizable: bool = False) -> Attention:
    query, key, value = names
    return Attention(query=query, key=key, value=value, out=out, resizable=resizable)


def _fused(name: str, out: str, *, by_head: bool = False, resizable: bool = False) -> Attention:
    return Attention(
        query=name, key=name, value=name, out=out, by_head=by_head, resizable=resizable
    )


_QKV_PROJ = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_BERT_NEURONS = _plain("intermediate.dense", "output.dense", "intermediate_size", "hidden_act")
_BERT = Family(
    (_BERT_NEURONS,),
    _attention(
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.output.dense",
    ),
)
_MPNET = Family(
    (_BERT_NEURONS,),
    _attention(("attention.attn.q", "attention.attn.k", "attention.attn.v"), "attention.attn.o"),
)
_MODERNBERT = Family(
    (_gated("mlp.Wi", "mlp.Wi", "mlp.Wo", "hidden_activation"),), _fused("attn.Wqkv", "attn.Wo")
)
_DISTILBERT = Family(
    (_plain("ffn.lin1", "ffn.lin2", "hidden_dim", "activation"),),
    _attention(("attention.q_lin", "attention.k_lin", "attention.v_lin"), "attention.out_lin"),
)
_GPT2 = Family(
    (_plain("mlp.c_fc", "mlp.c_proj", "n_inner", "activation_function"),),
    _fused("attn.c_attn", "attn.c_proj"),
    transposed=True,
)
_GPT_NEOX = Family(
    (_plain("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "intermediate_size", "hidden_act"),),
    _fused("attention.query_key_value", "attention.dense", by_head=True),
)
_OPT = Family(
    (_plain("fc1", "fc2", "ffn_dim", "activation_function"),),
    _attention(_QKV_PROJ, "self_attn.out_proj"),
)
_LLAMA, _GEMMA = (
    Family(
        (_gated("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", activation),),
        _attention(_QKV_PROJ, "self_attn.o_proj", resizable=True),
    )
    for activation in ("hidden_act", "hidden_activation")
)
_PHI3 = Family(
    (_gated("mlp.gate_up_proj", "mlp.gate_up_proj", "mlp.down_proj"),),
    _fused("self_attn.qkv_proj", "self_attn.o_proj", resizable=True),
)
# All layers share the position biases of the first one's heads, so that no head can go.
_T5 = Family(
    (
        _plain("DenseReluDense.wi", "DenseReluDense.wo", "d_ff", "dense_act_fn"),
        FeedForward(
            gate="DenseReluDense.wi_0",
            up="DenseReluDense.wi_1",
            down="DenseReluDense.wo",
            size="d_ff",
            activation="dense_act_fn",
        ),
    ),
    _attention(("SelfAttention.q", "SelfAttention.k", "SelfAttention.v"), "SelfAttention.o"),
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
    **dict.fromkeys(("gemma", "llama", "mistral", "qwen2", "qwen3", "smollm3"), _LLAMA),
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA),
    "phi3": _PHI3,
}
