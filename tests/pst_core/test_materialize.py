"""A pruned model becomes a plain one again that holds the zeros, and tells where they are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pst_core.convert import Converted, Pruning, convert, materialize
from pst_core.layers import SparseLinear
from pst_core.recipes import Hyperparameters
from pst_core.report import PrunedMatrix
from tests.pst_core.families import FAMILIES, Family, each_family, outputs

SPARSITY = 0.6


def pruned(family: Family) -> tuple[PreTrainedModel, Converted]:
    """A model whose factors are as if trained, at its sparsity."""
    model = family.build()
    converted = convert(model, Pruning(method="pst"), Hyperparameters(rank=2, score_rank=2))
    for layer in converted.layers.values():
        for factor in "VBRC":
            nn.init.normal_(layer.get_parameter(factor), std=0.02)
    converted.set_sparsity(SPARSITY)
    return model, converted


def finished(name: str) -> tuple[PreTrainedModel, dict[str, Tensor], dict[str, PrunedMatrix]]:
    model, converted = pruned(FAMILIES[name])
    masks, matrices = materialize(model, converted)
    return model, masks, {matrix.name: matrix for matrix in matrices}


@each_family
def test_the_model_has_the_modules_and_tensors_it_had_before_it_was_converted(
    family: Family,
) -> None:
    plain = family.build()
    model, converted = pruned(family)
    materialize(model, converted)
    kinds = {name: type(module) for name, module in plain.named_modules()}
    shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


@each_family
def test_the_plain_model_computes_what_the_sparse_one_did(family: Family) -> None:
    model, converted = pruned(family)
    before = outputs(model)
    materialize(model, converted)
    # W' is rounded once where the forward rounded at each addition.
    torch.testing.assert_close(outputs(model), before, rtol=1e-4, atol=1e-5)


@each_family
def test_a_saved_model_loads_without_this_package_and_computes_the_same_bits(
    family: Family, tmp_path: Path
) -> None:
    model, converted = pruned(family)
    materialize(model, converted)
    model.save_pretrained(tmp_path)
    loaded = family.model_class.from_pretrained(tmp_path).eval()
    assert torch.equal(outputs(loaded), outputs(model))


@each_family
def test_masks_and_descriptions_fit_the_stored_tensors(family: Family) -> None:
    model, converted = pruned(family)
    masks, matrices = materialize(model, converted)
    state = model.state_dict()
    keys = [f"{name}.weight" for name in family.names()]
    assert list(masks) == [matrix.name for matrix in matrices] == keys
    for matrix in matrices:
        mask, stored = masks[matrix.name], state[matrix.name]
        assert mask.shape == stored.shape == matrix.shape
        assert torch.equal(stored != 0, mask)
        assert sum(matrix.parts) == stored.shape[matrix.output_axis]
        sizes = [
            len(part) * stored.numel() // sum(matrix.parts) for part in map(range, matrix.parts)
        ]
        assert matrix.pruned == int((~mask).sum()) == sum(int(SPARSITY * n) for n in sizes)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "gpt2",
            PrunedMatrix(
                name="h.0.attn.c_attn.weight",
                shape=(32, 96),
                pruned=3 * int(SPARSITY * 32 * 32),
                parts=(32, 32, 32),
                output_axis=1,
            ),
        ),
        (
            "phi3",
            PrunedMatrix(
                name="model.layers.0.self_attn.qkv_proj.weight",
                shape=(64, 32),
                pruned=int(SPARSITY * 32 * 32) + 2 * int(SPARSITY * 16 * 32),
                parts=(32, 16, 16),
                output_axis=0,
            ),
        ),
        (
            "bert",
            PrunedMatrix(
                name="bert.encoder.layer.0.output.dense.weight",
                shape=(32, 48),
                pruned=int(SPARSITY * 32 * 48),
                parts=(32,),
                output_axis=0,
            ),
        ),
    ],
)
def test_a_matrix_is_described_as_it_is_stored(family: str, expected: PrunedMatrix) -> None:
    assert finished(family)[2][expected.name] == expected


@pytest.mark.parametrize("family", ["gpt2", "phi3"])
def test_every_part_of_a_stored_mask_has_its_share_of_zeros(family: str) -> None:
    _, masks, matrices = finished(family)
    for name, matrix in matrices.items():
        for part in masks[name].split(matrix.parts, dim=matrix.output_axis):
            assert int((~part).sum()) == int(SPARSITY * part.numel())


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_what_is_kept_is_the_exact_weight(family: str) -> None:
    model, converted = pruned(FAMILIES[family])
    expected = {
        f"{name}.weight": layer.exact_weight().where(layer.mask(), 0.0)
        for name, layer in converted.layers.items()
    }
    _, matrices = materialize(model, converted)
    state = model.state_dict()
    for matrix in matrices:
        stored = state[matrix.name]
        assert torch.equal(stored.T if matrix.output_axis else stored, expected[matrix.name])


def test_zeros_are_positive() -> None:
    model, masks, _ = finished("bert")
    state = model.state_dict()
    assert not any(state[name][~mask].signbit().any() for name, mask in masks.items())


def test_weights_that_train_under_a_mask_are_materialized_alike() -> None:
    model = FAMILIES["gpt2"].build()
    converted = convert(model, Pruning(method="magnitude"), Hyperparameters())
    converted.set_sparsity(SPARSITY)
    before = outputs(model)
    materialize(model, converted)
    assert not any(isinstance(module, SparseLinear) for module in model.modules())
    torch.testing.assert_close(outputs(model), before)


def test_no_random_numbers_are_drawn() -> None:
    model, converted = pruned(FAMILIES["gpt2"])
    before = torch.get_rng_state()
    materialize(model, converted)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_sparse_layers_nothing_changes() -> None:
    model = FAMILIES["bert"].build()
    before = dict(model.named_modules())
    assert materialize(model, Converted({})) == ({}, ())
    assert dict(model.named_modules()) == before
