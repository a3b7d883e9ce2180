"""PSTLinear's hand-written backward gives what autograd makes of the paper's equations."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pst_core.kernels import _add_on_device
from pst_core.layers import PSTLinear
from pst_core.masks import NOfM
from pst_core.schedule import sparsity_at
from tests.pst_core.plain_layers import (
    FACTORS,
    gradients,
    make_layer,
    plain_forward,
    plain_mask,
    plain_masked_weight,
    plain_parts,
)

PATTERNS = (NOfM(2, 4), NOfM(4, 8))
HALF = (torch.float16, torch.bfloat16)
SMALL = st.integers(1, 7)


@dataclass(frozen=True)
class Case:
    layer: PSTLinear
    inputs: Tensor
    gradient: Tensor


@st.composite
def cases(draw: st.DrawFn, *, dtype: torch.dtype = torch.float32) -> Case:
    """A layer of any shape, options and sparsity, with inputs of one to four dimensions."""
    pattern = draw(st.none() | st.sampled_from(PATTERNS))
    parts = tuple(draw(st.lists(SMALL, min_size=1, max_size=3)))
    weights = st.floats(0, 3)
    layer = make_layer(
        sum(parts),
        draw(SMALL) * (pattern.m if pattern else 1),
        bias=draw(st.booleans()),
        seed=draw(st.integers(0, 2**31)),
        sparsity=draw(st.floats(0, 0.99)),
        dtype=dtype,
        rank=draw(st.integers(1, 4)),
        score_rank=draw(st.integers(1, 4)),
        alpha1=draw(weights),
        alpha2=draw(weights),
        beta=draw(weights),
        parts=parts,
        pattern=pattern,
    )
    before = draw(st.lists(st.integers(1, 3), max_size=3))
    x_BI = torch.randn(*before, layer.weight.shape[1], dtype=dtype)
    return Case(layer, x_BI, torch.randn(*before, layer.weight.shape[0], dtype=dtype))


def doubled(case: Case) -> Case:
    return Case(case.layer.double(), case.inputs.double(), case.gradient.double())


def assert_same(found: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    """Equal but for this share of the largest entry."""
    assert found is not None
    assert expected is not None
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1))


def assert_follows_the_plain_formulation(
    case: Case, tolerance: float, *, half: torch.dtype | None = None
) -> None:
    """Forward and backward; the forward under an autocast where a half precision is given."""
    plain, x_BI = deepcopy(case.layer), case.inputs.clone().requires_grad_()
    plain_x_BI = case.inputs.clone().requires_grad_()
    with torch.autocast("cpu", dtype=half, enabled=half is not None):
        y_BO, plain_y_BO = case.layer(x_BI), plain_forward(plain, plain_x_BI)
    assert_same(y_BO, plain_y_BO, tolerance)
    y_BO.backward(case.gradient.to(y_BO.dtype))
    plain_y_BO.backward(case.gradient.to(y_BO.dtype))
    assert_same(x_BI.grad, plain_x_BI.grad, tolerance)
    expected = gradients(plain)
    for name, found in gradients(case.layer).items():
        if name == "weight":
            assert found is None
        else:
            assert_same(found, expected[name], tolerance)


# In full precision


@settings(deadline=None, max_examples=100)
@given(cases().map(doubled))
def test_output_and_all_gradients_are_the_plain_formulations(case: Case) -> None:
    assert_follows_the_plain_formulation(case, 1e-10)


@settings(deadline=None, max_examples=30)
@given(cases().map(doubled))
def test_factor_gradients_are_the_papers_equations(case: Case) -> None:
    layer = case.layer
    layer(case.inputs).backward(case.gradient)
    with torch.no_grad():
        dy_NO, x_NI = torch.atleast_2d(case.gradient), torch.atleast_2d(case.inputs)
        grad_OI = dy_NO.flatten(0, -2).T @ x_NI.flatten(0, -2)
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
        assert_same(getattr(layer, name).grad, expected[name], 1e-10)


@settings(deadline=None, max_examples=50)
@given(cases().map(doubled))
def test_mask_and_masked_weight_are_the_plain_formulations(case: Case) -> None:
    _, score_OI = plain_parts(case.layer)
    expected = plain_mask(score_OI, case.layer.sparsity, case.layer.selector).bool()
    assert torch.equal(case.layer.mask(), expected)
    torch.testing.assert_close(case.layer.masked_weight(), plain_masked_weight(case.layer).detach())


def test_a_frozen_bias_gets_no_gradient() -> None:
    layer = make_layer(3, 4)
    assert layer.bias is not None
    layer.bias.requires_grad = False
    layer(torch.randn(2, 4)).sum().backward()
    assert layer.bias.grad is None


def test_an_empty_batch_has_gradients_of_zero() -> None:
    layer, x_BI = make_layer(3, 4, sparsity=0.5), torch.empty(0, 4, requires_grad=True)
    y_BO = layer(x_BI)
    y_BO.sum().backward()
    assert (y_BO.shape, x_BI.grad is not None) == ((0, 3), True)
    assert not any(getattr(layer, name).grad.any() for name in FACTORS)


def test_an_expanded_gradient_is_taken_as_any() -> None:
    layer = make_layer(3, 4, sparsity=0.5)
    plain, x_BTI = deepcopy(layer), torch.randn(2, 5, 4)
    layer(x_BTI).sum().backward()
    plain_forward(plain, x_BTI).sum().backward()
    for name in (*FACTORS, "bias"):
        torch.testing.assert_close(gradients(layer)[name], gradients(plain)[name])


def test_an_input_in_another_order_of_memory_is_taken_as_any() -> None:
    layer = make_layer(3, 4, sparsity=0.5)
    plain, x_BTI = deepcopy(layer), torch.randn(4, 5, 2).transpose(0, 2)
    layer(x_BTI).square().sum().backward()
    plain_forward(plain, x_BTI).square().sum().backward()
    for name in (*FACTORS, "bias"):
        torch.testing.assert_close(gradients(layer)[name], gradients(plain)[name])


@pytest.mark.parametrize(
    "options", [{}, {"parts": (4, 4, 4)}, {"pattern": NOfM(2, 4)}], ids=["one", "parts", "2:4"]
)
def test_twenty_training_steps_follow_the_plain_formulation(
    options: dict[str, Any],
) -> None:
    steps, rate = 20, 0.02
    layers = [
        make_layer(12, 8, seed=1, rank=2, **options).double(),
        make_layer(3, 12, seed=2).double(),
    ]
    plain = [deepcopy(layer) for layer in layers]
    optimizers = [
        torch.optim.AdamW(nn.ModuleList(each).parameters(), lr=rate) for each in (layers, plain)
    ]
    x_BTI, target_BTO = torch.randn(6, 2, 8).double(), torch.randn(6, 2, 3).double()
    for step in range(1, steps + 1):
        for layer in (*layers, *plain):
            layer.sparsity = sparsity_at(
                step, steps, target=0.8, initial_warmup=0.1, final_hold=0.3
            )
        hidden = plain_forward(plain[0], x_BTI).tanh()
        outputs = [layers[1](layers[0](x_BTI).tanh()), plain_forward(plain[1], hidden)]
        for optimizer, y_BTO in zip(optimizers, outputs, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(y_BTO, target_BTO).backward()
            optimizer.step()
        for layer, other in zip(layers, plain, strict=True):
            assert torch.equal(layer.mask(), other.mask())
    for layer, other in zip(layers, plain, strict=True):
        for found, expected in zip(layer.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


# In half precision


@settings(deadline=None, max_examples=50)
@given(cases())
def test_under_autocast_output_and_gradients_are_the_plain_formulations(case: Case) -> None:
    assert_follows_the_plain_formulation(case, 0.02, half=torch.bfloat16)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(HALF).flatmap(lambda dtype: cases(dtype=dtype)))
def test_a_half_precision_weight_is_masked_by_float32_scores(case: Case) -> None:
    assert case.layer.score().dtype == torch.float32
    _, score_OI = plain_parts(case.layer)
    expected = plain_mask(score_OI, case.layer.sparsity, case.layer.selector).bool()
    assert torch.equal(case.layer.mask(), expected)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(HALF).flatmap(lambda dtype: cases(dtype=dtype)))
def test_a_half_precision_weight_trains_float32_factors(case: Case) -> None:
    assert case.layer(case.inputs).dtype == case.layer.weight.dtype
    assert {getattr(case.layer, name).dtype for name in FACTORS} == {torch.float32}
    assert_follows_the_plain_formulation(case, 0.02)


@pytest.mark.parametrize("dtype", HALF)
def test_a_float32_input_meets_a_half_precision_weight(dtype: torch.dtype) -> None:
    layer = make_layer(3, 4, dtype=dtype, sparsity=0.5)
    x_BI = torch.randn(2, 4, requires_grad=True)
    y_BO = layer(x_BI)
    y_BO.sum().backward()
    assert y_BO.dtype == dtype
    assert torch.equal(y_BO, layer(x_BI.to(dtype)))
    assert x_BI.grad is not None
    assert x_BI.grad.dtype == torch.float32


@pytest.mark.parametrize("half", HALF)
def test_an_autocast_does_not_change_the_mask_of_the_forward(half: torch.dtype) -> None:
    layer = make_layer(48, 64, bias=False, sparsity=0.5)
    expected = layer.mask()
    with torch.autocast("cpu", dtype=half):
        used_OI = layer(torch.eye(64)).T != 0
    assert torch.equal(used_OI, expected)


@pytest.mark.parametrize("half", HALF)
def test_an_autocast_does_not_change_masks_scores_and_weights(half: torch.dtype) -> None:
    layer = make_layer(64, 64, sparsity=0.5)
    ways = (layer.mask, layer.score, layer.masked_weight, layer.updated_weight, layer.exact_weight)
    expected = [way() for way in ways]
    with torch.autocast("cpu", dtype=half):
        found = [way() for way in ways]
    assert all(map(torch.equal, found, expected))


def test_a_backward_under_an_autocast_gives_the_gradients_of_one_outside() -> None:
    layer = make_layer(16, 16, sparsity=0.5)
    other, x_BI = deepcopy(layer), torch.randn(4, 16)
    layer(x_BI).sum().backward()
    y_BO = other(x_BI)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_BO.sum().backward()
    for name in FACTORS:
        assert torch.equal(getattr(layer, name).grad, getattr(other, name).grad)


@pytest.mark.parametrize("half", HALF)
def test_entries_that_half_precision_cannot_tell_apart_are_told_apart(half: torch.dtype) -> None:
    layer = PSTLinear(torch.ones(1, 8, dtype=half), rank=1)
    order = torch.tensor([3, 1, 7, 0, 5, 2, 6, 4])
    with torch.no_grad():
        layer.U.fill_(1.0)
        layer.V.copy_(1e-6 * order[None])
    layer.sparsity = 0.5
    assert torch.equal(layer.mask()[0], order >= 4)


@settings(deadline=None, max_examples=30)
@given(cases().map(doubled))
def test_the_gpus_way_to_the_score_gives_the_cpus(case: Case) -> None:
    layer = case.layer
    factors = tuple(factor.detach() for factor in (layer.A, layer.B, layer.R, layer.C))
    found = _add_on_device(
        layer.updated_weight().abs(), factors, alpha1=layer.alpha1, alpha2=layer.alpha2
    )
    assert_same(found, layer.score(), 1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@settings(deadline=None, max_examples=30)
@given(cases())
def test_gradients_on_a_gpu_are_those_on_a_cpu(case: Case) -> None:
    case = doubled(case)
    other, x_BI = deepcopy(case.layer).cuda(), case.inputs.cuda()
    case.layer(case.inputs).backward(case.gradient)
    other(x_BI).backward(case.gradient.cuda())
    for name in FACTORS:
        assert_same(getattr(other, name).grad.cpu(), getattr(case.layer, name).grad, 1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pattern", [None, *PATTERNS])
def test_a_step_on_a_gpu_never_waits_for_it(pattern: NOfM | None) -> None:
    layer = make_layer(12, 16, bias=True, sparsity=0.5, parts=(4, 8), pattern=pattern).cuda()
    x_BI = torch.randn(3, 16, device="cuda", requires_grad=True)
    layer(x_BI).sum().backward()  # the first one has libraries and memory to fetch
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer.sparsity = 0.6
        layer(x_BI).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
