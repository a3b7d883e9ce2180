"""PSTLinear computes what the paper's equations say, forward and backward."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pst_core.layers import PSTLinear
from pst_core.schedule import sparsity_at

FACTORS = ("U", "V", "A", "B", "R", "C")


@dataclass(frozen=True)
class Case:
    layer: PSTLinear
    inputs: Tensor
    gradient: Tensor


def make_layer(
    out: int,
    inputs: int,
    *,
    bias: bool = True,
    seed: int = 0,
    **numbers: Any,  # noqa: ANN401 -- of several types
) -> PSTLinear:
    """A float32 layer none of whose factors is zero."""
    torch.manual_seed(seed)
    layer = PSTLinear(torch.randn(out, inputs), torch.randn(out) if bias else None, **numbers)
    for name in FACTORS:
        nn.init.normal_(getattr(layer, name))
    return layer


@st.composite
def cases(draw: st.DrawFn) -> Case:
    small, weights = st.integers(1, 7), st.floats(0, 3)
    layer = make_layer(
        draw(small),
        draw(small),
        bias=draw(st.booleans()),
        seed=draw(st.integers(0, 2**31)),
        rank=draw(st.integers(1, 4)),
        score_rank=draw(st.integers(1, 4)),
        alpha1=draw(weights),
        alpha2=draw(weights),
        beta=draw(weights),
    ).double()
    layer.sparsity = draw(st.floats(0, 0.99))
    x_BTI = torch.randn(draw(small), 2, layer.weight.shape[1], dtype=torch.float64)
    return Case(layer, x_BTI, torch.randn(*x_BTI.shape[:2], layer.weight.shape[0]).double())


def plain_forward(layer: PSTLinear, factors: dict[str, Tensor], x_BTI: Tensor) -> Tensor:
    """The equations of section 3 as they stand, for autograd to differentiate."""
    U, V, A, B, R, C = (factors[name] for name in FACTORS)
    weight_OI = layer.weight + layer.beta * (U @ V)
    score_OI = weight_OI.abs() + layer.alpha1 * (A @ B) + layer.alpha2 * (R[:, None] + C[None, :])
    order = score_OI.reshape(-1).argsort(stable=True)
    mask_OI = torch.ones_like(score_OI).reshape(-1)
    mask_OI[order[: int(layer.sparsity * order.numel())]] = 0
    # Straight through: the mask's value, the score's gradient.
    mask_OI = mask_OI.view_as(score_OI) + (score_OI - score_OI.detach())
    y_BTO = x_BTI @ (mask_OI * weight_OI).T
    return y_BTO if layer.bias is None else y_BTO + layer.bias


def leaf_factors(layer: PSTLinear) -> dict[str, Tensor]:
    return {name: getattr(layer, name).detach().clone().requires_grad_() for name in FACTORS}


@settings(deadline=None)
@given(cases())
def test_forward_is_the_plain_formulations(case: Case) -> None:
    expected = plain_forward(case.layer, leaf_factors(case.layer), case.inputs)
    torch.testing.assert_close(case.layer(case.inputs), expected)


@settings(deadline=None)
@given(cases())
def test_all_gradients_are_the_plain_formulations(case: Case) -> None:
    plain, plain_x = leaf_factors(case.layer), case.inputs.clone().requires_grad_()
    plain_forward(case.layer, plain, plain_x).backward(case.gradient)
    x_BTI = case.inputs.clone().requires_grad_()
    case.layer(x_BTI).backward(case.gradient)
    torch.testing.assert_close(x_BTI.grad, plain_x.grad)
    for name in FACTORS:
        torch.testing.assert_close(getattr(case.layer, name).grad, plain[name].grad)


@settings(deadline=None)
@given(cases())
def test_factor_gradients_are_the_papers_equations(case: Case) -> None:
    layer = case.layer
    layer(case.inputs).backward(case.gradient)
    with torch.no_grad():
        grad_OI = case.gradient.flatten(0, 1).T @ case.inputs.flatten(0, 1)
        weight_OI = layer.weight + layer.beta * (layer.U @ layer.V)
        d_weight_OI = grad_OI * (layer.mask() + weight_OI.abs())
        d_score_OI = grad_OI * weight_OI
        expected = {
            "U": layer.beta * d_weight_OI @ layer.V.T,
            "V": layer.beta * layer.U.T @ d_weight_OI,
            "A": layer.alpha1 * d_score_OI @ layer.B.T,
            "B": layer.alpha1 * layer.A.T @ d_score_OI,
            "R": layer.alpha2 * d_score_OI.sum(1),
            "C": layer.alpha2 * d_score_OI.sum(0),
        }
    for name in FACTORS:
        torch.testing.assert_close(getattr(layer, name).grad, expected[name])


def test_weight_and_bias_are_frozen() -> None:
    layer = make_layer(4, 5)
    trainable = {name for name, parameter in layer.named_parameters() if parameter.requires_grad}
    assert trainable == set(FACTORS)


def test_the_first_forward_is_the_pretrained_layers() -> None:
    linear, x_BI = nn.Linear(9, 6), torch.randn(4, 9)
    layer = PSTLinear(linear.weight, linear.bias)
    assert torch.equal(layer(x_BI), linear(x_BI))


def test_the_first_scores_are_the_magnitudes() -> None:
    weight_OI = torch.randn(6, 9)
    layer = PSTLinear(weight_OI)
    layer.sparsity = 0.5
    pruned = weight_OI.abs()[~layer.mask()]
    assert pruned.max() < weight_OI.abs()[layer.mask()].min()


def test_u_and_a_start_as_unit_normals_and_the_rest_as_zero() -> None:
    torch.manual_seed(0)
    layer = PSTLinear(torch.randn(4000, 3), rank=5, score_rank=7)
    for name, columns in (("U", 5), ("A", 7)):
        factor = getattr(layer, name)
        assert factor.shape == (4000, columns)
        assert abs(factor.mean().item()) < 0.05
        assert abs(factor.std().item() - 1) < 0.05
    assert not any(getattr(layer, name).any() for name in ("V", "B", "R", "C"))


def test_the_layer_owns_copies_of_weight_and_bias() -> None:
    linear = nn.Linear(3, 3)
    layer = PSTLinear(linear.weight, linear.bias)
    before = layer.weight.clone()
    nn.init.zeros_(linear.weight)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.97])
def test_the_asked_number_of_entries_is_zero_in_the_forward_weight(sparsity: float) -> None:
    layer = make_layer(13, 17)
    layer.sparsity = sparsity
    assert int((layer.masked_weight() == 0).sum()) == int(sparsity * (13 * 17))


def test_no_pruned_entry_is_negative_zero() -> None:
    layer = make_layer(16, 16)
    layer.sparsity = 0.8
    weight_OI = layer.masked_weight()
    unmasked_OI = layer.exact_weight()
    assert (unmasked_OI[~layer.mask()] < 0).any()
    assert not weight_OI[~layer.mask()].signbit().any()


def test_a_half_precision_autocast_does_not_change_the_mask() -> None:
    layer = make_layer(64, 64)
    layer.sparsity = 0.5
    expected = layer.mask()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer.mask()
    assert torch.equal(found, expected)


@settings(deadline=None)
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


def test_the_exact_weight_is_the_forward_weight_but_for_rounding() -> None:
    layer = make_layer(32, 32)
    torch.testing.assert_close(layer.masked_weight(), layer.exact_weight())


def test_twenty_training_steps_follow_the_plain_formulation() -> None:
    steps, rate = 20, 0.02
    layers = [make_layer(12, 10, seed=1, rank=2).double(), make_layer(3, 12, seed=2).double()]
    plain = [leaf_factors(layer) for layer in layers]
    factors = [getattr(layer, name) for layer in layers for name in FACTORS]
    leaves = [factor for leaf in plain for factor in leaf.values()]
    optimizers = [torch.optim.AdamW(each, lr=rate, weight_decay=0.0) for each in (factors, leaves)]
    x_BTI, target_BTO = torch.randn(6, 2, 10).double(), torch.randn(6, 2, 3).double()
    for step in range(1, steps + 1):
        for layer in layers:
            layer.sparsity = sparsity_at(
                step, steps, target=0.8, initial_warmup=0.1, final_hold=0.3
            )
        hidden = plain_forward(layers[0], plain[0], x_BTI).tanh()
        outputs = [layers[1](layers[0](x_BTI).tanh()), plain_forward(layers[1], plain[1], hidden)]
        for optimizer, y_BTO in zip(optimizers, outputs, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(y_BTO, target_BTO).backward()
            optimizer.step()
    for factor, leaf in zip(factors, leaves, strict=True):
        torch.testing.assert_close(factor, leaf)
