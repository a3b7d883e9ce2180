"""Each criterion scores, masks and trains a weight as its paper says."""

import typing

import pytest
import torch
from torch import Tensor, nn

from pst_core.criteria import CRITERIA, Matrix
from pst_core.layers import MaskedLinear, PSTLinear, SparseLinear
from pst_core.masks import NOfM
from pst_core.recipes import Hyperparameters
from pst_core.spec import UNPRUNED, Method

HYPER = Hyperparameters(rank=4, score_rank=16, alpha1=0.5, alpha2=0.25, beta=2.0)
RELATIVE = HYPER.model_copy(update={"relative": True})
OUT, IN = 600, 40
DEVIATION = 0.05  # of a whole model; the weight's own is 0.03
each_method = pytest.mark.parametrize("method", list(CRITERIA))


def weight() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(OUT, IN) * 0.03


def layer_of(method: Method, hyper: Hyperparameters = HYPER) -> SparseLinear:
    torch.manual_seed(2)
    # Parameters, as they come from a model.
    weight_OI, bias_O = nn.Parameter(weight()), nn.Parameter(torch.arange(OUT, dtype=torch.float32))
    return CRITERIA[method](matrix_of(weight_OI, bias_O), hyper)


def matrix_of(
    weight_OI: Tensor,
    bias_O: Tensor | None = None,
    parts: tuple[int, ...] = (OUT,),
    pattern: NOfM | None = None,
) -> Matrix:
    return Matrix(
        weight_OI=weight_OI, deviation=DEVIATION, bias_O=bias_O, parts=parts, pattern=pattern
    )


def pst_layer(hyper: Hyperparameters) -> PSTLinear:
    layer = layer_of("pst", hyper)
    assert isinstance(layer, PSTLinear)
    return layer


def lowest(scores_OI: Tensor, sparsity: float) -> Tensor:
    """The mask that drops the entries of lowest score, by a plain sort."""
    keep = torch.ones(scores_OI.numel(), dtype=torch.bool)
    keep[scores_OI.flatten().argsort(stable=True)[: int(sparsity * scores_OI.numel())]] = False
    return keep.view_as(scores_OI)


def backward(layer: SparseLinear) -> Tensor:
    """Run a loss through a layer; its gradient by the masked weight, G (O×I)."""
    torch.manual_seed(3)
    x_BI, dy_BO = torch.randn(5, IN), torch.randn(5, OUT)
    layer(x_BI).backward(dy_BO)
    return dy_BO.T @ x_BI


def test_every_method_that_prunes_has_a_criterion_and_no_other() -> None:
    assert CRITERIA.keys() == set(typing.get_args(Method)) - UNPRUNED


@each_method
def test_the_first_forward_is_the_pretrained_layer(method: Method) -> None:
    layer, x_BI = layer_of(method), torch.randn(3, IN)
    expected_BO = nn.functional.linear(x_BI, weight(), torch.arange(OUT, dtype=torch.float32))
    torch.testing.assert_close(layer(x_BI), expected_BO)


@each_method
def test_the_highest_scores_are_kept(method: Method) -> None:
    layer = layer_of(method)
    layer.sparsity = 0.7
    assert torch.equal(layer.mask(), lowest(layer.score(), 0.7))


@each_method
def test_parts_and_patterns_reach_the_layer(method: Method) -> None:
    matrix = matrix_of(weight(), parts=(400, 200), pattern=NOfM(2, 4))
    layer = CRITERIA[method](matrix, HYPER)
    assert (layer.selector.parts, layer.selector.pattern) == ((400, 200), NOfM(2, 4))
    assert layer.bias is None


@pytest.mark.parametrize("hyper", [HYPER, RELATIVE])
@pytest.mark.parametrize("method", ["pst", "magnitude"])
def test_the_first_score_is_the_magnitude(method: Method, hyper: Hyperparameters) -> None:
    assert torch.equal(layer_of(method, hyper).score(), weight().abs())


def test_magnitude_scores_follow_the_weights_as_they_train() -> None:
    layer = layer_of("magnitude")
    with torch.no_grad():
        layer.weight.neg_().add_(1)
    assert torch.equal(layer.score(), (1 - weight()).abs())


def test_magnitude_gives_gradients_to_what_is_kept_alone() -> None:
    layer = layer_of("magnitude")
    layer.sparsity = 0.7
    grad_OI = backward(layer)
    torch.testing.assert_close(layer.weight.grad, grad_OI * lowest(weight().abs(), 0.7))


def test_movement_scores_train_from_zero_by_gradient_times_weight() -> None:
    layer = layer_of("movement")
    scores = layer.get_parameter("S")
    assert not scores.any()
    layer.sparsity = 0.7
    grad_OI = backward(layer)
    # Straight through: pruned entries get theirs too.
    torch.testing.assert_close(scores.grad, grad_OI * weight())


def test_movement_prunes_what_moved_towards_zero() -> None:
    layer = layer_of("movement")
    grad_OI = backward(layer)
    torch.optim.SGD([layer.get_parameter("S")], lr=0.1).step()
    layer.sparsity = 0.7
    assert torch.equal(layer.mask(), lowest(-0.1 * grad_OI * weight(), 0.7))


def test_random_scores_are_drawn_once_and_stay() -> None:
    layer = layer_of("random")
    before = layer.score().clone()
    assert before.unique().numel() > OUT * IN * 0.99
    backward(layer)
    torch.optim.SGD([p for p in layer.parameters() if p.requires_grad], lr=1.0).step()
    assert torch.equal(layer.score(), before)
    assert not torch.equal(layer.weight, weight())


def test_random_scores_differ_from_one_matrix_to_the_next() -> None:
    matrix = matrix_of(weight())
    first, second = (CRITERIA["random"](matrix, HYPER) for _ in range(2))
    assert not torch.equal(first.score(), second.score())


def test_wanda_scores_are_equal_until_they_are_calibrated() -> None:
    layer = layer_of("wanda")
    assert isinstance(layer, MaskedLinear)
    assert not layer.score().any()


@pytest.mark.parametrize("method", ["magnitude", "random", "wanda"])
def test_scores_that_do_not_train_are_no_parameters_and_not_saved(method: Method) -> None:
    layer = layer_of(method)
    assert dict(layer.named_parameters()).keys() == {"weight", "bias"}
    assert layer.state_dict().keys() == {"weight", "bias"}


def test_psts_numbers_are_the_recipes() -> None:
    layer = pst_layer(HYPER)
    assert (layer.alpha1, layer.alpha2, layer.beta) == (0.5, 0.25, 2.0)
    assert (layer.U.shape, layer.V.shape) == ((OUT, 4), (4, IN))
    assert (layer.A.shape, layer.B.shape) == ((OUT, 16), (16, IN))


def test_psts_relative_numbers_count_in_deviations_of_the_model_and_roots_of_the_rank() -> None:
    layer = pst_layer(RELATIVE)
    numbers = (layer.alpha1 * 16**0.5, layer.alpha2, layer.beta * 4**0.5)
    assert numbers == pytest.approx((0.5 * DEVIATION, 0.25 * DEVIATION, 2.0 * DEVIATION))


@pytest.mark.parametrize("hyper", [HYPER, RELATIVE])
def test_psts_factors_start_as_standard_normals(hyper: Hyperparameters) -> None:
    layer = pst_layer(hyper)
    assert float(layer.U.detach().std()) == pytest.approx(1.0, rel=0.05)
    assert float(layer.A.detach().std()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("hyper", [HYPER, RELATIVE])
def test_psts_score_is_the_papers(hyper: Hyperparameters) -> None:
    layer = pst_layer(hyper)
    for factor in (layer.V, layer.B, layer.R, layer.C):
        nn.init.normal_(factor)
    scale = DEVIATION if hyper.relative else 1.0
    by_rank, by_score_rank = (4**-0.5, 16**-0.5) if hyper.relative else (1.0, 1.0)
    updated_OI = weight() + 2.0 * scale * by_rank * layer.U @ layer.V
    low_rank_OI = 0.5 * by_score_rank * layer.A @ layer.B
    learned_OI = low_rank_OI + 0.25 * (layer.R[:, None] + layer.C[None, :])
    torch.testing.assert_close(layer.score(), updated_OI.abs() + scale * learned_OI)
