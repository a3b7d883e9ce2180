"""What a PSTLinear is: how it starts, what its weight is, what is copied with it."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pst_core.layers import PSTLinear
from pst_core.masks import NOfM
from tests.pst_core.plain_layers import FACTORS, make_layer

# How it starts


def test_weight_and_bias_are_frozen() -> None:
    layer = PSTLinear(torch.randn(4, 5), torch.randn(4))
    trainable = {name for name, parameter in layer.named_parameters() if parameter.requires_grad}
    assert trainable == set(FACTORS)


def test_the_first_forward_is_the_pretrained_layers() -> None:
    linear, x_BI = nn.Linear(9, 6), torch.randn(4, 9)
    layer = PSTLinear(linear.weight, linear.bias)
    assert torch.equal(layer(x_BI), linear(x_BI))


def test_the_first_scores_are_the_magnitudes() -> None:
    weight_OI = torch.randn(6, 9)
    assert torch.equal(PSTLinear(weight_OI).score(), weight_OI.abs())


def test_u_and_a_start_as_unit_normals_and_the_rest_as_zero() -> None:
    torch.manual_seed(0)
    layer = PSTLinear(torch.randn(4000, 3), rank=5, score_rank=7)
    for name, columns in (("U", 5), ("A", 7)):
        factor = getattr(layer, name)
        assert factor.shape == (4000, columns)
        assert abs(factor.mean().item()) < 0.05
        assert abs(factor.std().item() - 1) < 0.05
    assert not any(getattr(layer, name).any() for name in ("V", "B", "R", "C"))


def test_the_layer_shares_the_memory_of_weight_and_bias() -> None:
    linear = nn.Linear(3, 3)
    layer = PSTLinear(linear.weight, linear.bias)
    assert layer.bias is not None
    assert layer.weight.data_ptr() == linear.weight.data_ptr()
    assert layer.bias.data_ptr() == linear.bias.data_ptr()


def test_what_the_layer_freezes_still_trains_where_it_came_from() -> None:
    linear = nn.Linear(3, 3)
    PSTLinear(linear.weight, linear.bias)
    assert linear.weight.requires_grad
    assert linear.bias.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_factors_are_float32_at_least(dtype: torch.dtype) -> None:
    layer = PSTLinear(torch.randn(3, 4, dtype=dtype))
    assert {getattr(layer, name).dtype for name in FACTORS} == {torch.float32}
    assert layer.weight.dtype == dtype


def test_factors_of_a_float64_weight_are_float64() -> None:
    layer = PSTLinear(torch.randn(3, 4, dtype=torch.float64))
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float64}


def test_a_layer_can_be_made_float64() -> None:
    layer = make_layer(5, 6, sparsity=0.4)
    doubled = deepcopy(layer).double()
    x_BI = torch.randn(2, 6)
    assert doubled.score().dtype == torch.float64
    torch.testing.assert_close(doubled(x_BI.double()).float(), layer(x_BI))


# Its weight


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.97])
def test_the_asked_number_of_entries_is_zero_in_the_forward_weight(sparsity: float) -> None:
    layer = make_layer(13, 17, sparsity=sparsity)
    assert int((layer.masked_weight() == 0).sum()) == int(sparsity * (13 * 17))


def test_each_part_loses_the_asked_number_of_entries() -> None:
    layer = make_layer(9, 5, parts=(2, 3, 4), sparsity=0.5)
    pruned = [int((part_OI == 0).sum()) for part_OI in layer.masked_weight().split((2, 3, 4))]
    assert pruned == [int(0.5 * 10), int(0.5 * 15), int(0.5 * 20)]


@pytest.mark.parametrize("pattern", [NOfM(2, 4), NOfM(4, 8)], ids=["2:4", "4:8"])
def test_a_pattern_at_its_sparsity_keeps_n_of_m(pattern: NOfM) -> None:
    layer = make_layer(6, 16, pattern=pattern, sparsity=pattern.sparsity)
    kept = (layer.masked_weight() != 0).view(-1, pattern.m).sum(1)
    assert (kept == pattern.n).all()


def test_no_pruned_entry_is_negative_zero() -> None:
    layer = make_layer(16, 16, sparsity=0.8)
    assert (layer.updated_weight()[~layer.mask()] < 0).any()
    assert not layer.masked_weight()[~layer.mask()].signbit().any()


def test_the_forward_uses_the_masked_weight() -> None:
    layer = make_layer(16, 16, bias=False, sparsity=0.8)
    assert torch.equal(layer(torch.eye(16)).T, layer.masked_weight())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_transposed_weight_is_masked_as_its_copy(dtype: torch.dtype) -> None:
    stored = torch.randn(8, 6).to(dtype).T
    layer, copied = PSTLinear(stored), PSTLinear(stored.contiguous())
    layer.sparsity = copied.sparsity = 0.5
    assert torch.equal(layer.mask(), copied.mask())
    x_BI = torch.randn(2, 8).to(dtype)
    assert torch.equal(layer(x_BI), copied(x_BI))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_exact_weight_is_the_float64_sum_in_order_rounded_once(
    seed: int, rank: int, beta: float
) -> None:
    layer = make_layer(5, 7, seed=seed, rank=rank, beta=beta)
    expected = np.empty((5, 7), np.float32)
    for o, i in np.ndindex(5, 7):
        update = 0.0
        for k in range(rank):
            update += layer.U[o, k].item() * layer.V[k, i].item()
        expected[o, i] = layer.weight[o, i].item() + beta * update
    assert np.array_equal(layer.exact_weight().numpy().view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    ("terms", "weight"), [([1e20, -1e20, 1.0], 1.0), ([1.0, 1e20, -1e20], 0.0)]
)
def test_the_exact_weight_is_summed_from_the_first_rank_to_the_last(
    terms: list[float], weight: float
) -> None:
    layer = PSTLinear(torch.zeros(1, 1), rank=3)
    with torch.no_grad():
        layer.U.copy_(torch.tensor([terms]))
        layer.V.fill_(1.0)
    assert layer.exact_weight().item() == weight


def test_the_exact_weight_is_rounded_once() -> None:
    layer = PSTLinear(torch.ones(1, 1), rank=2)
    with torch.no_grad():
        layer.U.fill_(2.0**-24)
        layer.V.fill_(1.0)
    # Two roundings, each half an ulp down to even, would give 1.
    assert layer.exact_weight().item() == 1 + 2.0**-23


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_exact_weight_is_the_forward_weight_but_for_rounding(dtype: torch.dtype) -> None:
    layer = make_layer(32, 32, dtype=dtype)
    assert layer.exact_weight().dtype == dtype
    torch.testing.assert_close(layer.masked_weight().to(dtype), layer.exact_weight())


# What is copied with it


def test_a_deep_copy_computes_the_same_and_shares_nothing() -> None:
    layer, x_BI = make_layer(5, 6, sparsity=0.4), torch.randn(2, 6)
    layer(x_BI).sum().backward()
    copied = deepcopy(layer)
    assert torch.equal(copied(x_BI), layer(x_BI))
    pointers = [{each.data_ptr() for each in one.parameters()} for one in (layer, copied)]
    assert not pointers[0] & pointers[1]


def test_the_state_is_weight_bias_and_factors() -> None:
    assert set(make_layer(5, 6).state_dict()) == {"weight", "bias", *FACTORS}


def test_a_loaded_state_computes_the_same() -> None:
    layer, other = make_layer(5, 6, seed=1, sparsity=0.4), make_layer(5, 6, seed=2, sparsity=0.4)
    other.load_state_dict(layer.state_dict())
    x_BI = torch.randn(2, 6)
    assert torch.equal(other(x_BI), layer(x_BI))
