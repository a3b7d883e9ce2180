"""One tiny random model of each kind of architecture, and the matrices each is expected to have."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

# A second thread costs these matrices more than it gives, most of all on a busy machine.
torch.set_num_threads(1)

BERT_BLOCK = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
GPT2_BLOCK = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
LLAMA_BLOCK = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
# The weights are ten times the usual: random blocks that mix tokens enough for a test to tell.
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}
DECODER_SIZES = SIZES | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED_SIZES = DECODER_SIZES | {"num_key_value_heads": 2}
GPT2_SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 32,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5_SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "initializer_factor": 0.2,
}


@dataclass(frozen=True)
class Family:
    """How to build a model of two blocks, where they stand, and what they hold in its order."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    blocks: str
    matrices: tuple[str, ...]

    def build(self) -> PreTrainedModel:
        """The same weights at every call, dropout off."""
        torch.manual_seed(0)
        model: PreTrainedModel = self.model_class(copy.deepcopy(self.config)).eval()
        return model

    def names(self) -> list[str]:
        return [f"{self.blocks}.{block}.{name}" for block in range(2) for name in self.matrices]


FAMILIES = {
    "bert": Family(
        hf.BertForSequenceClassification,
        hf.BertConfig(**SIZES),
        "bert.encoder.layer",
        BERT_BLOCK,
    ),
    "roberta": Family(
        hf.RobertaForSequenceClassification,
        hf.RobertaConfig(**SIZES),
        "roberta.encoder.layer",
        BERT_BLOCK,
    ),
    "electra": Family(
        hf.ElectraForSequenceClassification,
        hf.ElectraConfig(**SIZES, embedding_size=16),
        "electra.encoder.layer",
        BERT_BLOCK,
    ),
    "distilbert": Family(
        hf.DistilBertForSequenceClassification,
        hf.DistilBertConfig(
            vocab_size=40,
            dim=32,
            hidden_dim=48,
            n_layers=2,
            n_heads=4,
            max_position_embeddings=32,
            initializer_range=0.2,
        ),
        "distilbert.transformer.layer",
        (
            "attention.q_lin",
            "attention.k_lin",
            "attention.v_lin",
            "attention.out_lin",
            "ffn.lin1",
            "ffn.lin2",
        ),
    ),
    "gpt2": Family(hf.GPT2Model, hf.GPT2Config(**GPT2_SIZES), "h", GPT2_BLOCK),
    "gpt2-lm": Family(hf.GPT2LMHeadModel, hf.GPT2Config(**GPT2_SIZES), "transformer.h", GPT2_BLOCK),
    "gpt2-classifier": Family(
        hf.GPT2ForSequenceClassification, hf.GPT2Config(**GPT2_SIZES), "transformer.h", GPT2_BLOCK
    ),
    "llama": Family(
        hf.LlamaForCausalLM, hf.LlamaConfig(**GROUPED_SIZES), "model.layers", LLAMA_BLOCK
    ),
    "mistral": Family(
        hf.MistralForCausalLM, hf.MistralConfig(**GROUPED_SIZES), "model.layers", LLAMA_BLOCK
    ),
    "qwen2": Family(
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config(**GROUPED_SIZES, tie_word_embeddings=True),
        "model.layers",
        LLAMA_BLOCK,
    ),
    "qwen3": Family(
        hf.Qwen3ForCausalLM,
        hf.Qwen3Config(**GROUPED_SIZES, head_dim=8),
        "model.layers",
        LLAMA_BLOCK,
    ),
    "smollm3": Family(
        hf.SmolLM3ForCausalLM, hf.SmolLM3Config(**GROUPED_SIZES), "model.layers", LLAMA_BLOCK
    ),
    "gemma": Family(
        hf.GemmaForCausalLM,
        hf.GemmaConfig(**GROUPED_SIZES, head_dim=8),
        "model.layers",
        LLAMA_BLOCK,
    ),
    "gemma2": Family(
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config(**GROUPED_SIZES, head_dim=8),
        "model.layers",
        LLAMA_BLOCK,
    ),
    "gemma3": Family(
        hf.Gemma3ForCausalLM,
        hf.Gemma3TextConfig(**GROUPED_SIZES, head_dim=8),
        "model.layers",
        LLAMA_BLOCK,
    ),
    "phi3": Family(
        hf.Phi3ForCausalLM,
        hf.Phi3Config(**GROUPED_SIZES),
        "model.layers",
        ("self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj"),
    ),
    # From here on no table: what is found is found by structure.
    "mpnet": Family(
        hf.MPNetForSequenceClassification,
        hf.MPNetConfig(**SIZES),
        "mpnet.encoder.layer",
        (
            "attention.attn.q",
            "attention.attn.k",
            "attention.attn.v",
            "attention.attn.o",
            "intermediate.dense",
            "output.dense",
        ),
    ),
    "opt": Family(
        hf.OPTForCausalLM,
        hf.OPTConfig(
            vocab_size=40,
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            word_embed_proj_dim=16,
            init_std=0.2,
        ),
        "model.decoder.layers",
        (
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.q_proj",
            "self_attn.out_proj",
            "fc1",
            "fc2",
        ),
    ),
    "gpt-neox": Family(
        hf.GPTNeoXForCausalLM,
        hf.GPTNeoXConfig(**DECODER_SIZES),
        "gpt_neox.layers",
        ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    ),
    "modernbert": Family(
        hf.ModernBertForSequenceClassification,
        hf.ModernBertConfig(**DECODER_SIZES, cls_token_id=1, sep_token_id=2),
        "model.layers",
        ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"),
    ),
    "t5-encoder": Family(
        hf.T5EncoderModel,
        hf.T5Config(**T5_SIZES),
        "encoder.block",
        (
            "layer.0.SelfAttention.q",
            "layer.0.SelfAttention.k",
            "layer.0.SelfAttention.v",
            "layer.0.SelfAttention.o",
            "layer.1.DenseReluDense.wi",
            "layer.1.DenseReluDense.wo",
        ),
    ),
}
each_family = pytest.mark.parametrize(
    "family", [pytest.param(family, id=name) for name, family in FAMILIES.items()]
)

# Two texts, the second with two tokens of padding.
INPUT_IDS = torch.tensor([[4, 9, 14, 19, 24, 29], [30, 25, 20, 15, 0, 0]])
ATTENTION_MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])


def outputs(model: PreTrainedModel) -> Tensor:
    """The logits for two short texts, or the last hidden states of a model without a head."""
    logits: Tensor = model(input_ids=INPUT_IDS, attention_mask=ATTENTION_MASK)[0]
    return logits
