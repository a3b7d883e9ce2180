"""A compact folder answers as the dense one does, with fewer neurons and heads."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pst_core.errors import CheckpointCorruptError, NotCompactableError
from pst_core.formats.compact import Removed, write_compact
from pst_core.formats.idle import IdleUnits, zero_structures
from tests.pst_core import tiny
from tests.pst_core.families import (
    FAMILIES,
    GROUPED_SIZES,
    INPUT_IDS,
    T5_SIZES,
    Family,
    each_family,
    outputs,
)

HEAD = 8  # rows: all families have four heads in a width of 32
# Linear layers by what they are to the neurons, the heads: (gate, up, down), (value, out).
ROLES = {
    "attention.self.query": ((None, "intermediate.dense", "output.dense"),
                             ("attention.self.value", "attention.output.dense")),
    "attention.q_lin": ((None, "ffn.lin1", "ffn.lin2"),
                        ("attention.v_lin", "attention.out_lin")),
    "attn.c_attn": ((None, "mlp.c_fc", "mlp.c_proj"), ("attn.c_attn", "attn.c_proj")),
    "self_attn.q_proj": (("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
                         ("self_attn.v_proj", "self_attn.o_proj")),
    "self_attn.qkv_proj": (("mlp.gate_up_proj", "mlp.gate_up_proj", "mlp.down_proj"),
                           ("self_attn.qkv_proj", "self_attn.o_proj")),
    "attention.attn.q": ((None, "intermediate.dense", "output.dense"),
                         ("attention.attn.v", "attention.attn.o")),
    "fc1": ((None, "fc1", "fc2"), ("self_attn.v_proj", "self_attn.out_proj")),
    "attention.query_key_value": ((None, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
                                  ("attention.query_key_value", "attention.dense")),
    "attn.Wqkv": (("mlp.Wi", "mlp.Wi", "mlp.Wo"), ("attn.Wqkv", "attn.Wo")),
    "layer.0.SelfAttention.q": ((None, "layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wo"),
                                ("layer.0.SelfAttention.v", "layer.0.SelfAttention.o")),
}  # fmt: skip


@torch.no_grad()
def build(family: Family) -> PreTrainedModel:
    """With biases and norms that are not what they start at."""
    model = family.build()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            spread = 0.5 if name.endswith("bias") else 0.1
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return model


def linear(family: Family, model: PreTrainedModel, block: int, name: str) -> nn.Module:
    return model.get_submodule(f"{family.blocks}.{block}.{name}")


def rows_of(module: nn.Module) -> Tensor:
    """The weight as out × in, a view."""
    weight: Tensor = module.get_parameter("weight").detach()
    return weight.T if isinstance(module, Conv1D) else weight


def roles(family: Family) -> tuple[tuple[str | None, str, str], tuple[str, str]]:
    if "fc1" in family.matrices:
        return ROLES["fc1"]
    (found,) = (ROLES[name] for name in family.matrices if name in ROLES)
    return found


def drop_takers(family: Family, model: PreTrainedModel, block: int, neurons: Iterable[int]) -> None:
    """Neurons that nothing takes up."""
    (_, _, down), _ = roles(family)
    rows_of(linear(family, model, block, down))[:, list(neurons)] = 0


def drop_makers(family: Family, model: PreTrainedModel, block: int, neurons: Iterable[int]) -> None:
    """Neurons whose own weights are zero; their biases stay."""
    (gate, up, _), _ = roles(family)
    rows = rows_of(linear(family, model, block, up))
    above = len(rows) // 2 if gate == up else 0
    for neuron in neurons:
        # Of a gated one either will do, if it is without bias: take the one and the other in turn.
        if gate and neuron % 2:
            rows_of(linear(family, model, block, gate))[neuron] = 0
        else:
            rows[above + neuron] = 0


def drop_heads(family: Family, model: PreTrainedModel, block: int, heads: Iterable[int]) -> None:
    """Heads that nothing takes up."""
    _, (_, out) = roles(family)
    for head in heads:
        rows_of(linear(family, model, block, out))[:, head * HEAD : (head + 1) * HEAD] = 0


def compacted(
    folder: Path, model: PreTrainedModel, *, shard_size: str = "5GB"
) -> tuple[Removed, PreTrainedModel]:
    model.save_pretrained(folder / "dense", max_shard_size=shard_size)
    removed = write_compact(folder / "dense", folder / "compact")
    found: Any = type(model).from_pretrained(folder / "compact", output_loading_info=True)
    loaded: PreTrainedModel
    loaded, about = found
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    assert not about["mismatched_keys"]
    return removed, loaded.eval()


@torch.inference_mode()
def assert_same_outputs(compact: PreTrainedModel, dense: PreTrainedModel) -> None:
    torch.testing.assert_close(outputs(compact), outputs(dense), rtol=1e-4, atol=1e-4)


@each_family
def test_without_neurons_that_nothing_takes_up_the_outputs_stay(
    tmp_path: Path, family: Family
) -> None:
    model = build(family)
    drop_takers(family, model, 0, (1, 5, 7, 40))
    drop_takers(family, model, 1, (0, 2, 3, 4, 47))

    removed, compact = compacted(tmp_path, model)

    assert [*removed.neurons.layers.values()] == [(1, 5, 7, 40), (0, 2, 3, 4)]
    assert removed.neurons.before - removed.neurons.after == 4
    assert compact.num_parameters() < model.num_parameters()
    assert_same_outputs(compact, model)


@each_family
def test_without_neurons_whose_own_weights_are_zero_the_outputs_stay(
    tmp_path: Path, family: Family
) -> None:
    model = build(family)
    drop_makers(family, model, 0, (0, 1, 46, 47))
    drop_makers(family, model, 1, (11, 20, 21, 22))

    removed, compact = compacted(tmp_path, model)

    assert [*removed.neurons.layers.values()] == [(0, 1, 46, 47), (11, 20, 21, 22)]
    assert_same_outputs(compact, model)


def test_what_a_constant_neuron_gives_goes_into_the_next_bias(tmp_path: Path) -> None:
    family = FAMILIES["bert"]
    model = build(family)
    drop_makers(family, model, 0, (3,))
    drop_takers(family, model, 1, (3,))
    up, down = (linear(family, model, 0, name) for name in ("intermediate.dense", "output.dense"))
    constant = nn.functional.gelu(up.get_parameter("bias")[3])
    expected = down.get_parameter("bias") + constant * down.get_parameter("weight")[:, 3]

    _, compact = compacted(tmp_path, model)

    bias = linear(family, compact, 0, "output.dense").get_parameter("bias")
    torch.testing.assert_close(bias, expected)
    assert not torch.equal(bias, down.get_parameter("bias"))


def llama(**changes: object) -> Family:
    config = hf.LlamaConfig(**{**GROUPED_SIZES, **changes})
    return Family(hf.LlamaForCausalLM, config, "model.layers", FAMILIES["llama"].matrices)


def test_of_a_gated_layer_with_biases_gate_and_up_must_both_be_zero(tmp_path: Path) -> None:
    family = llama(mlp_bias=True)
    model = build(family)
    for block in range(2):
        gate, up = (
            rows_of(linear(family, model, block, f"mlp.{name}_proj")) for name in ("gate", "up")
        )
        gate[[2, 9]] = 0
        up[[2, 17]] = 0

    removed, compact = compacted(tmp_path, model)

    assert [*removed.neurons.layers.values()] == [(2,), (2,)]
    assert_same_outputs(compact, model)


RESIZABLE = [name for name in FAMILIES if "self_attn.o_proj" in FAMILIES[name].matrices]


@pytest.mark.parametrize("name", RESIZABLE)
def test_without_groups_of_heads_that_nothing_takes_up_the_outputs_stay(
    tmp_path: Path, name: str
) -> None:
    family = FAMILIES[name]
    model = build(family)
    drop_heads(family, model, 0, (0, 1, 2))
    drop_heads(family, model, 1, (2, 3))

    removed, compact = compacted(tmp_path, model)

    assert [*removed.heads.layers.values()] == [(0, 1), (2, 3)]
    assert (removed.heads.before, removed.heads.after) == (4, 2)
    assert compact.config.num_attention_heads == 2
    assert compact.config.num_key_value_heads == 1
    assert compact.config.head_dim == HEAD
    assert_same_outputs(compact, model)


def test_a_group_stays_where_one_of_its_heads_is_taken_up(tmp_path: Path) -> None:
    family = FAMILIES["llama"]
    model = build(family)
    drop_heads(family, model, 0, (0, 1))
    drop_heads(family, model, 1, (0, 2))

    with pytest.raises(NotCompactableError, match=r"groups of 2 heads model\.layers\.1 .* 0 of 2"):
        compacted(tmp_path, model)


@pytest.mark.parametrize("bias", [False, True])
def test_without_heads_whose_values_are_zero_the_outputs_stay(tmp_path: Path, bias: bool) -> None:
    family = llama(attention_bias=bias)
    model = build(family)
    for block, first in ((0, 0), (1, HEAD)):
        rows_of(linear(family, model, block, "self_attn.v_proj"))[first : first + HEAD] = 0

    removed, compact = compacted(tmp_path, model)

    assert [*removed.heads.layers.values()] == [(0, 1), (2, 3)]
    assert_same_outputs(compact, model)


def test_a_head_of_constant_values_stays_where_no_bias_can_take_them_up(tmp_path: Path) -> None:
    family = FAMILIES["qwen2"]  # has a bias for its values, and none for its output
    model = build(family)
    for block in range(2):
        rows_of(linear(family, model, block, "self_attn.v_proj"))[:HEAD] = 0

    with pytest.raises(NotCompactableError):
        compacted(tmp_path, model)


def mistral() -> Family:
    config = hf.MistralConfig(**{**GROUPED_SIZES, "num_key_value_heads": 4})
    return Family(hf.MistralForCausalLM, config, "model.layers", FAMILIES["mistral"].matrices)


@pytest.mark.parametrize(("family", "left"), [(llama(num_key_value_heads=4), 4), (mistral(), 3)])
def test_heads_stay_where_the_number_left_would_be_refused(
    tmp_path: Path, family: Family, left: int
) -> None:
    # A Llama's number of heads must divide its width of 32, a Mistral's need not.
    model = build(family)
    for block in range(2):
        drop_heads(family, model, block, (block,))
        drop_takers(family, model, block, (0,))

    removed, compact = compacted(tmp_path, model)

    assert removed.heads.after == compact.config.num_attention_heads == left
    assert compact.config.intermediate_size == 47
    assert_same_outputs(compact, model)


def test_one_neuron_is_left_where_all_could_go(tmp_path: Path) -> None:
    family = FAMILIES["bert"]
    model = build(family)
    for block in range(2):
        drop_takers(family, model, block, range(48))

    removed, compact = compacted(tmp_path, model)

    assert removed.neurons.after == compact.config.intermediate_size == 1
    assert_same_outputs(compact, model)


def test_a_gated_t5_loses_its_neurons_in_encoder_and_decoder(tmp_path: Path) -> None:
    config = hf.T5Config(**T5_SIZES, feed_forward_proj="gated-gelu")
    torch.manual_seed(0)
    model = hf.T5ForConditionalGeneration(config).eval()
    for number, block in enumerate((*model.encoder.block, *model.decoder.block)):
        block.layer[-1].DenseReluDense.wi_1.weight.data[[number, 40]] = 0

    removed, compact = compacted(tmp_path, model)

    assert removed.neurons.layers == {
        "decoder.block.0.layer.2": (2, 40),
        "decoder.block.1.layer.2": (3, 40),
        "encoder.block.0.layer.1": (0, 40),
        "encoder.block.1.layer.1": (1, 40),
    }
    with torch.inference_mode():
        torch.testing.assert_close(
            compact(input_ids=INPUT_IDS, decoder_input_ids=INPUT_IDS).logits,
            model(input_ids=INPUT_IDS, decoder_input_ids=INPUT_IDS).logits,
        )


def pruned_bert() -> PreTrainedModel:
    family = FAMILIES["bert"]
    model = build(family)
    drop_takers(family, model, 0, (1, 2))
    drop_takers(family, model, 1, (1, 3))
    return model


def test_all_that_does_not_get_smaller_is_kept_bit_for_bit(tmp_path: Path) -> None:
    compacted(tmp_path, pruned_bert())

    dense, compact = (
        load_file(tmp_path / name / "model.safetensors") for name in ("dense", "compact")
    )
    smaller = {name for name in dense if "intermediate" in name or name.endswith("output.dense")}
    smaller |= {f"bert.encoder.layer.{block}.output.dense.weight" for block in range(2)}
    assert compact.keys() == dense.keys()
    assert all(torch.equal(compact[name], dense[name]) for name in dense.keys() - smaller)


def test_the_configuration_changes_in_the_number_alone(tmp_path: Path) -> None:
    compacted(tmp_path, pruned_bert())

    dense, compact = (
        json.loads((tmp_path / name / "config.json").read_bytes()) for name in ("dense", "compact")
    )
    assert compact == dense | {"intermediate_size": 46}


def test_other_files_are_copied_but_not_the_manifest(tmp_path: Path) -> None:
    pruned_bert().save_pretrained(tmp_path / "dense")
    tiny.save_tokenizer(tmp_path / "dense", ends=True)
    (tmp_path / "dense" / "pst.json").write_text("{}", encoding="utf-8")
    others = {"tokenizer.json", "tokenizer_config.json"}

    write_compact(tmp_path / "dense", tmp_path / "compact")

    names = {path.name for path in (tmp_path / "compact").iterdir()}
    assert names == others | {"config.json", "model.safetensors"}
    for name in others:
        assert (tmp_path / "compact" / name).read_bytes() == (
            tmp_path / "dense" / name
        ).read_bytes()


def test_shards_stay_shards(tmp_path: Path) -> None:
    model = pruned_bert()

    _, compact = compacted(tmp_path, model, shard_size="20KB")

    dense_names, compact_names = (
        {path.name for path in (tmp_path / name).glob("*.safetensors")}
        for name in ("dense", "compact")
    )
    assert len(dense_names) > 1
    assert compact_names == dense_names
    assert_same_outputs(compact, model)


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    model = pruned_bert()
    model.bfloat16().save_pretrained(tmp_path / "dense")

    write_compact(tmp_path / "dense", tmp_path / "compact")

    compact = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "compact")
    assert compact.dtype == torch.bfloat16
    # What is compared is the removal, not bfloat16's arithmetic.
    assert_same_outputs(compact.float().eval(), model.float())


def test_what_has_nothing_to_remove_is_refused_with_the_numbers(tmp_path: Path) -> None:
    family = FAMILIES["bert"]
    model = build(family)
    drop_takers(family, model, 0, (1, 2))
    drop_heads(family, model, 0, (0,))
    drop_heads(family, model, 1, (0,))

    with pytest.raises(NotCompactableError) as caught:
        compacted(tmp_path, model)

    assert caught.value.message == (
        "Nothing can be taken out of every layer: of neurons bert.encoder.layer.1 has the fewest "
        "that do nothing, 0 of 48; the configuration has no way to say that heads are missing."
    )
    assert caught.value.remedy
    assert {path.name for path in tmp_path.iterdir()} == {"dense"}


def test_an_unknown_family_is_refused_by_its_name(tmp_path: Path) -> None:
    hf.XLMModel(hf.XLMConfig(vocab_size=40, emb_dim=32, n_layers=1, n_heads=2)).save_pretrained(
        tmp_path / "dense"
    )

    with pytest.raises(NotCompactableError, match="xlm"):
        write_compact(tmp_path / "dense", tmp_path / "compact")


def test_a_broken_folder_is_refused(tmp_path: Path) -> None:
    pruned_bert().save_pretrained(tmp_path / "dense")
    weights = tmp_path / "dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(CheckpointCorruptError, match="dense"):
        write_compact(tmp_path / "dense", tmp_path / "compact")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    pruned_bert().save_pretrained(tmp_path / "dense")
    (tmp_path / "compact").mkdir()
    (tmp_path / "compact" / "mine").touch()

    with pytest.raises(FileExistsError):
        write_compact(tmp_path / "dense", tmp_path / "compact")


def idle_heads(folder: Path, model: PreTrainedModel) -> list[int]:
    model.save_pretrained(folder)
    return [layer.idle for layer in zero_structures(folder).heads]


@each_family
def test_heads_that_nothing_takes_up_are_counted(tmp_path: Path, family: Family) -> None:
    model = build(family)
    drop_heads(family, model, 0, (0, 3))
    drop_heads(family, model, 1, (1,))

    assert idle_heads(tmp_path, model) == [2, 1]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("bert", range(HEAD, 2 * HEAD)),
        ("gpt2", range(64 + HEAD, 64 + 2 * HEAD)),
        # Of each head its query, its key and its value.
        ("gpt-neox", range(5 * HEAD, 6 * HEAD)),
        ("modernbert", range(64 + HEAD, 64 + 2 * HEAD)),
    ],
)
def test_heads_whose_values_are_zero_are_counted(
    tmp_path: Path, name: str, rows: Iterable[int]
) -> None:
    family = FAMILIES[name]
    model = build(family)
    _, (value, _) = roles(family)
    rows_of(linear(family, model, 1, value))[list(rows)] = 0

    assert idle_heads(tmp_path, model) == [0, 1]


def test_neurons_are_counted_layer_by_layer(tmp_path: Path) -> None:
    family = FAMILIES["gpt2-lm"]
    model = build(family)
    drop_takers(family, model, 0, (0, 9))
    drop_makers(family, model, 0, (9, 10))
    model.save_pretrained(tmp_path)

    assert zero_structures(tmp_path).neurons == (
        IdleUnits(layer="transformer.h.0", idle=3, all=128),
        IdleUnits(layer="transformer.h.1", idle=0, all=128),
    )
