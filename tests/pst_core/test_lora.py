"""Adapters train beside dense weights, and become part of them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pst_core.architectures import survey
from pst_core.lora import add_adapters, merge_adapters
from pst_core.recipes import Hyperparameters
from tests.pst_core.families import FAMILIES, Family, outputs

FOUR = ("bert", "gpt2-lm", "llama", "phi3")
each_of_four = pytest.mark.parametrize("family", [FAMILIES[name] for name in FOUR], ids=FOUR)


def adapted(family: Family) -> PreTrainedModel:
    model = family.build()
    add_adapters(model, survey(model).prunable, Hyperparameters(rank=3))
    return model


def adapters(model: PreTrainedModel) -> set[str]:
    return {name for name, _ in model.named_parameters() if ".lora_" in name}


def train(model: PreTrainedModel) -> None:
    """Two steps: in the first, one half of each adapter is zero and so the other half stays."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        logits = outputs(model)
        (logits * torch.linspace(-1, 1, logits.shape[-1])).mean().backward()
        optimizer.step()


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@each_of_four
def test_each_named_layer_gets_one_adapter(family: Family) -> None:
    assert adapters(adapted(family)) == {
        f"{name}.lora_{side}.default.weight" for name in family.names() for side in "AB"
    }


def test_an_adapter_has_the_recipes_rank_and_twice_its_scale() -> None:
    layer = adapted(FAMILIES["bert"]).get_submodule("bert.encoder.layer.0.output.dense")
    assert layer.get_parameter("lora_A.default.weight").shape == (3, 48)
    assert layer.get_parameter("lora_B.default.weight").shape == (32, 3)
    assert layer.scaling == {"default": 2.0}


@each_of_four
def test_adapters_start_without_effect(family: Family) -> None:
    torch.testing.assert_close(outputs(adapted(family)), outputs(family.build()))


@each_of_four
def test_training_changes_all_adapters_and_nothing_else(family: Family) -> None:
    model = adapted(family)
    before = weights(model)
    train(model)
    changed = {name for name, p in weights(model).items() if not torch.equal(p, before[name])}
    assert changed == adapters(model)


@each_of_four
def test_merging_leaves_the_plain_model(family: Family) -> None:
    plain, model = family.build(), adapted(family)
    merge_adapters(model)
    kinds = {name: type(module) for name, module in plain.named_modules()}
    shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes
    assert vars(model).keys() == vars(plain).keys()


@each_of_four
def test_the_merged_model_computes_what_the_adapted_one_did(family: Family) -> None:
    model = adapted(family)
    train(model)
    before = outputs(model)
    assert not torch.allclose(before, outputs(family.build()), rtol=1e-3)
    merge_adapters(model)
    torch.testing.assert_close(outputs(model), before, rtol=1e-4, atol=1e-5)


@each_of_four
def test_a_merged_model_is_saved_and_loaded_as_a_plain_one(family: Family, tmp_path: Path) -> None:
    model = adapted(family)
    train(model)
    merge_adapters(model)
    model.save_pretrained(tmp_path)
    loaded = family.model_class.from_pretrained(tmp_path).eval()
    assert torch.equal(outputs(loaded), outputs(model))
