"""MaskedLinear trains what its mask keeps, and its scores where they train."""

from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pst_core.layers import MaskedLinear
from pst_core.masks import NOfM
from tests.pst_core.plain_layers import plain_forward, plain_mask, plain_parts

KINDS = ("magnitude", "movement", "fixed")
PATTERNS = (NOfM(2, 4), NOfM(4, 8))
SMALL = st.integers(1, 7)


def make_masked(
    out: int,
    inputs: int,
    kind: str,
    *,
    seed: int = 0,
    sparsity: float = 0.5,
    parts: tuple[int, ...] | None = None,
    pattern: NOfM | None = None,
) -> MaskedLinear:
    """A float64 layer whose bias trains."""
    torch.manual_seed(seed)
    score_OI = torch.randn(out, inputs).double()
    scores = {"magnitude": None, "movement": nn.Parameter(score_OI), "fixed": score_OI}
    layer = MaskedLinear(
        torch.randn(out, inputs).double(),
        torch.randn(out).double(),
        score_OI=scores[kind],
        parts=parts,
        pattern=pattern,
    )
    layer.requires_grad_()
    layer.sparsity = sparsity
    return layer


@dataclass(frozen=True)
class Case:
    layer: MaskedLinear
    inputs: Tensor
    gradient: Tensor


@st.composite
def cases(draw: st.DrawFn) -> Case:
    pattern = draw(st.none() | st.sampled_from(PATTERNS))
    parts = tuple(draw(st.lists(SMALL, min_size=1, max_size=3)))
    layer = make_masked(
        sum(parts),
        draw(SMALL) * (pattern.m if pattern else 1),
        draw(st.sampled_from(KINDS)),
        seed=draw(st.integers(0, 2**31)),
        sparsity=draw(st.floats(0, 0.99)),
        parts=parts,
        pattern=pattern,
    )
    before = draw(st.lists(st.integers(1, 3), max_size=3))
    x_BI = torch.randn(*before, layer.weight.shape[1]).double()
    return Case(layer, x_BI, torch.randn(*before, layer.weight.shape[0]).double())


@settings(deadline=None)
@given(cases())
def test_output_and_all_gradients_are_the_plain_formulations(case: Case) -> None:
    plain, x_BI = deepcopy(case.layer), case.inputs.clone().requires_grad_()
    plain_x_BI = case.inputs.clone().requires_grad_()
    y_BO, plain_y_BO = case.layer(x_BI), plain_forward(plain, plain_x_BI)
    torch.testing.assert_close(y_BO, plain_y_BO, rtol=1e-10, atol=1e-10)
    y_BO.backward(case.gradient)
    plain_y_BO.backward(case.gradient)
    torch.testing.assert_close(x_BI.grad, plain_x_BI.grad, rtol=1e-10, atol=1e-10)
    for found, expected in zip(case.layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=50)
@given(cases())
def test_the_mask_is_the_plain_formulations(case: Case) -> None:
    _, score_OI = plain_parts(case.layer)
    expected = plain_mask(score_OI.detach(), case.layer.sparsity, case.layer.selector).bool()
    assert torch.equal(case.layer.mask(), expected)


def backward(layer: MaskedLinear) -> Tensor:
    """G, the gradient of the masked weight, after a forward and backward of the layer."""
    out, inputs = layer.weight.shape
    x_BI, dy_BO = torch.randn(3, inputs).double(), torch.randn(3, out).double()
    layer(x_BI).backward(dy_BO)
    return dy_BO.T @ x_BI


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_entries_get_no_gradient_and_kept_ones_all_of_it(kind: str) -> None:
    layer = make_masked(6, 8, kind)
    grad_OI = backward(layer)
    torch.testing.assert_close(layer.weight.grad, grad_OI * layer.mask())


def test_a_score_that_trains_gets_g_times_w_straight_through_the_mask() -> None:
    layer = make_masked(6, 8, "movement")
    grad_OI = backward(layer)
    assert isinstance(layer.S, nn.Parameter)
    torch.testing.assert_close(layer.S.grad, grad_OI * layer.weight.detach())


def test_without_scores_the_score_is_the_magnitude() -> None:
    layer = make_masked(6, 8, "magnitude")
    assert torch.equal(layer.score(), layer.weight.abs())


def test_the_mask_follows_the_magnitudes_as_they_train() -> None:
    layer = make_masked(1, 4, "magnitude")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -3.0, 2.0, 1.0]]))
        assert layer.mask().tolist() == [[True, True, False, False]]
        layer.weight.copy_(torch.tensor([[0.0, -3.0, -4.0, 1.0]]))
    assert layer.mask().tolist() == [[False, True, True, False]]


def test_fixed_scores_do_not_train() -> None:
    layer = make_masked(6, 8, "fixed")
    assert layer.S is not None
    before = layer.S.clone()
    backward(layer)
    assert torch.equal(layer.S, before)
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}


def test_fixed_scores_move_with_the_layer_but_are_not_saved() -> None:
    layer = make_masked(6, 8, "fixed").float()
    assert "S" not in layer.state_dict()
    assert layer.double().score().dtype == torch.float64


def test_scores_that_train_are_saved() -> None:
    layer, other = make_masked(6, 8, "movement", seed=1), make_masked(6, 8, "movement", seed=2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.mask(), layer.mask())


def test_the_layer_shares_the_memory_of_the_weight() -> None:
    linear = nn.Linear(3, 3)
    assert MaskedLinear(linear.weight).weight.data_ptr() == linear.weight.data_ptr()


def test_no_pruned_entry_is_negative_zero() -> None:
    layer = make_masked(16, 16, "magnitude")
    assert (layer.weight[~layer.mask()] < 0).any()
    assert not layer.masked_weight()[~layer.mask()].signbit().any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_transposed_weight_is_masked_as_its_copy(kind: str) -> None:
    copied = make_masked(6, 8, kind)
    layer = MaskedLinear(copied.weight.T.contiguous().T, copied.bias, score_OI=copied.S)
    layer.sparsity = copied.sparsity
    assert torch.equal(layer.mask(), copied.mask())
    assert torch.equal(layer.masked_weight(), copied.masked_weight())


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_mask_and_gradient_are_those_of_float32(kind: str) -> None:
    layer, x_BI = make_masked(32, 48, kind).float(), torch.randn(3, 48)
    plain = deepcopy(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.mask(), plain.mask())
        layer(x_BI).sum().backward()
        plain_forward(plain, x_BI).sum().backward()
    for found, expected in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_half_precision_weight_trains_in_its_own_dtype(kind: str, dtype: torch.dtype) -> None:
    full = make_masked(6, 8, kind).float()
    layer = MaskedLinear(full.weight.to(dtype), score_OI=full.S)
    y_BO = layer(torch.randn(3, 8, dtype=dtype))
    y_BO.sum().backward()
    assert y_BO.dtype == dtype
    assert layer.score().dtype == torch.float32
    assert {parameter.grad is not None for parameter in layer.parameters()} == {True}
