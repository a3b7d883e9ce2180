"""The architectures that are known by name: which matrices each block of theirs has.

Free of torch: the API tells of them, too. Finding them in a model is in architectures.py.
"""

_BERT = (
    "encoder.layer.*.attention.self.query",
    "encoder.layer.*.attention.self.key",
    "encoder.layer.*.attention.self.value",
    "encoder.layer.*.attention.output.dense",
    "encoder.layer.*.intermediate.dense",
    "encoder.layer.*.output.dense",
)
_DISTILBERT = tuple(
    f"transformer.layer.*.{name}"
    for name in (
        "attention.q_lin",
        "attention.k_lin",
        "attention.v_lin",
        "attention.out_lin",
        "ffn.lin1",
        "ffn.lin2",
    )
)
_GPT2 = ("h.*.attn.c_attn", "h.*.attn.c_proj", "h.*.mlp.c_fc", "h.*.mlp.c_proj")
_LLAMA = (
    *(f"layers.*.self_attn.{name}_proj" for name in ("q", "k", "v", "o")),
    *(f"layers.*.mlp.{name}_proj" for name in ("gate", "up", "down")),
)
_PHI3 = (
    "layers.*.self_attn.qkv_proj",
    "layers.*.self_attn.o_proj",
    "layers.*.mlp.gate_up_proj",
    "layers.*.mlp.down_proj",
)

# The matrices of each block, by model type, as named inside the base model.
FAMILIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _BERT),
    "distilbert": _DISTILBERT,
    "gpt2": _GPT2,
    **dict.fromkeys(
        (
            "gemma",
            "gemma2",
            "gemma3_text",
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "smollm3",
        ),
        _LLAMA,
    ),
    "phi3": _PHI3,
}
