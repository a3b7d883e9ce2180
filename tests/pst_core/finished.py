"""Tiny models as if they had been trained: dense folders, adapters, and the bases of both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from pst_core.adapters import make_adapter
from pst_core.convert import (
    Pruning,
    convert,
    head_parameters,
    materialize,
    trained_factors,
)
from pst_core.formats.dense import write_dense
from pst_core.recipes import Hyperparameters
from tests.pst_core import tiny

REFERENCE = "file:some/model"


@dataclass(frozen=True)
class Finished:
    base: Path
    dense: Path
    adapter: Path


def save_tied_llama(folder: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=len(tiny.VOCABULARY), max_position_embeddings=64,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny.save_tokenizer(folder, ends=False)
    return folder


def save_gguf_llama(path: Path) -> Path:
    """A Llama of one layer and 32 columns, its matrices in four bits; without a tokenizer."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tiny.VOCABULARY))
    shapes = {"token_embd": (len(tiny.VOCABULARY), 32), "blk.0.ffn_down": (32, 64)}
    shapes |= {f"blk.0.attn_{name}": (32, 32) for name in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{name}": (64, 32) for name in ("gate", "up")}
    rng, coding = np.random.default_rng(0), GGMLQuantizationType.Q4_1
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", quantize(values, coding), raw_dtype=coding)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


BASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "bert": (tiny.save_model, "text-classification"),
    "gpt2": (tiny.save_language_model, "causal-lm"),
    "llama": (save_tied_llama, "causal-lm"),
}


def finish(
    base: Path, task: str, out: Path, *, seed: int = 0, words: Path | None = None
) -> Finished:
    """Every factor, bias, norm and new head moved a little, at random; 60 % pruned.

    Args:
        base: As a compression starts from it.
        task: Which it is compressed for.
        out: Gets the dense folder and the adapter.
        seed: Of what moves.
        words: The folder of a tokenizer, where the base has none.
    """
    tokenizer = tiny.tokenizer(words or base)
    labels = ("neg", "pos") if task == "text-classification" else ()
    model = tiny.task(task).load_model(base, labels, tokenizer, seed=0)
    torch.manual_seed(seed)
    sparse = convert(model, Pruning(method="pst"), Hyperparameters(rank=2, score_rank=2))
    head = head_parameters(model).values() if task == "text-classification" else ()
    with torch.no_grad():
        for parameter in (*head, *(p for p in model.parameters() if p.ndim == 1)):
            parameter.add_(0.1 * torch.randn_like(parameter))
        for layer in sparse.layers.values():
            nn.init.normal_(layer.get_parameter("V"), std=0.02)
    sparse.set_sparsity(0.6)
    factors = trained_factors(sparse)
    masks = {name: mask.numpy() for name, mask in materialize(model, sparse)[0].items()}
    finished = Finished(base, out / "dense", out / "adapter")
    write_dense(model, base, tokenizer, finished.dense)
    make_adapter(finished.dense, base, factors, masks, finished.adapter, reference=REFERENCE)
    return finished
