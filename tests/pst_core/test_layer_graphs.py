"""Layers work in any graph, though they share scratch memory and keep little for backward."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from pst_core.layers import PSTLinear
from pst_core.masks import NOfM
from tests.pst_core.plain_layers import FACTORS, make_layer, plain_forward

Forward = Callable[[PSTLinear, Tensor], Tensor]


def apply(layer: PSTLinear, x_BI: Tensor) -> Tensor:
    y_BO: Tensor = layer(x_BI)
    return y_BO


def float64_layer(out: int, inputs: int, *, seed: int, sparsity: float = 0.5) -> PSTLinear:
    return make_layer(out, inputs, seed=seed, sparsity=sparsity).double()


def factor_gradients(layers: list[PSTLinear]) -> Iterator[Tensor]:
    for layer in layers:
        for name in FACTORS:
            gradient = getattr(layer, name).grad
            assert gradient is not None
            yield gradient


def assert_same_gradients(layers: list[PSTLinear], others: list[PSTLinear]) -> None:
    pairs = zip(factor_gradients(layers), factor_gradients(others), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def assert_graph_follows_the_plain_formulation(
    graph: Callable[[Forward, list[PSTLinear]], None], layers: list[PSTLinear]
) -> None:
    """``graph`` runs forward and backward, with a layer's forward or the plain one."""
    plain = [deepcopy(layer) for layer in layers]
    graph(apply, layers)
    graph(plain_forward, plain)
    assert_same_gradients(layers, plain)


# Several uses of one scratch memory


def test_layers_of_different_shapes_one_after_the_other() -> None:
    x_BI = torch.randn(3, 7).double()

    def graph(forward: Forward, layers: list[PSTLinear]) -> None:
        for layer in layers:
            layer.zero_grad()
        one, two, three = layers
        forward(three, forward(two, forward(one, x_BI).tanh()).tanh()).square().sum().backward()

    layers = [float64_layer(9, 7, seed=1), float64_layer(4, 9, seed=2), float64_layer(8, 4, seed=3)]
    assert_graph_follows_the_plain_formulation(graph, layers)


def test_layers_side_by_side_with_backwards_in_either_order() -> None:
    x_BI = torch.randn(3, 6).double()

    def graph(forward: Forward, layers: list[PSTLinear]) -> None:
        large, small = (forward(layer, x_BI).square().sum() for layer in layers)
        large.backward()
        again = forward(layers[0], x_BI + 1).square().sum()
        small.backward()
        again.backward()

    layers = [float64_layer(9, 6, seed=1), float64_layer(2, 6, seed=2)]
    assert_graph_follows_the_plain_formulation(graph, layers)


def test_one_layer_used_twice_in_a_graph() -> None:
    x_BI = torch.randn(3, 6).double()

    def graph(forward: Forward, layers: list[PSTLinear]) -> None:
        forward(layers[0], forward(layers[0], x_BI).tanh()).square().sum().backward()

    assert_graph_follows_the_plain_formulation(graph, [float64_layer(6, 6, seed=1)])


def test_a_backward_uses_the_mask_of_its_forward() -> None:
    x_BI = torch.randn(3, 6).double()

    def graph(forward: Forward, layers: list[PSTLinear]) -> None:
        (layer,) = layers
        layer.sparsity = 0.2
        sparse, layer.sparsity = forward(layer, x_BI).square().sum(), 0.9
        sparser = forward(layer, x_BI).square().sum()
        sparse.backward()
        sparser.backward()

    assert_graph_follows_the_plain_formulation(graph, [float64_layer(5, 6, seed=1)])


def test_gradients_of_two_backwards_add_up() -> None:
    x_BI = torch.randn(3, 6).double()

    def graph(forward: Forward, layers: list[PSTLinear]) -> None:
        for batch in (x_BI, x_BI + 1):
            forward(layers[0], batch).square().sum().backward()

    assert_graph_follows_the_plain_formulation(graph, [float64_layer(5, 6, seed=1)])


def gradients_in_turn(
    layer: PSTLinear, x_BI: Tensor, turn: Callable[[], object]
) -> tuple[Tensor, ...]:
    factors = [getattr(layer, name) for name in FACTORS]
    found: list[Tensor] = []
    for scale in range(1, 30):
        turn()
        loss = layer(scale * x_BI).square().sum()
        turn()
        found.extend(torch.autograd.grad(loss, factors))
    return tuple(found)


@pytest.mark.parametrize("shared", [False, True], ids=["a layer each", "one layer"])
def test_threads_do_not_disturb_each_other(*, shared: bool) -> None:
    layers = [make_layer(60, 50, seed=1, sparsity=0.5), make_layer(40, 50, seed=2, sparsity=0.5)]
    if shared:
        layers[1] = layers[0]
    inputs = [torch.randn(3, 50), torch.randn(3, 50)]
    alone = [gradients_in_turn(*pair, lambda: None) for pair in zip(layers, inputs, strict=True)]
    barrier = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(gradients_in_turn, layers, inputs, [barrier.wait] * 2))
    for found, expected in zip(together, alone, strict=True):
        assert all(map(torch.equal, found, expected))


# Ways of running a graph


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_checkpointing_changes_no_gradient(*, reentrant: bool) -> None:
    layers = [float64_layer(9, 6, seed=1), float64_layer(4, 9, seed=2)]
    x_BI = torch.randn(3, 6).double().requires_grad_()
    block, other = nn.Sequential(*layers), nn.Sequential(*map(deepcopy, layers))
    checkpoint(block, x_BI, use_reentrant=reentrant).square().sum().backward()
    found, x_BI.grad = x_BI.grad, None
    other(x_BI).square().sum().backward()
    assert found is not None
    assert x_BI.grad is not None
    assert torch.equal(found, x_BI.grad)
    for parameter, expected in zip(block.parameters(), other.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None)
        if parameter.grad is not None and expected.grad is not None:
            assert torch.equal(parameter.grad, expected.grad)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_forward_without_gradients_is_that_of_training(
    mode: type[torch.no_grad | torch.inference_mode],
) -> None:
    layer, x_BI = make_layer(5, 6, sparsity=0.5), torch.randn(2, 6)
    with mode():
        without = layer(x_BI)
    assert not without.requires_grad
    assert torch.equal(without, layer(x_BI))


def test_a_forward_in_evaluation_is_that_of_training() -> None:
    layer, x_BI = make_layer(5, 6, sparsity=0.5), torch.randn(2, 6)
    trained = layer(x_BI)
    assert torch.equal(layer.eval()(x_BI), trained)


def test_training_goes_on_after_a_first_forward_in_inference_mode() -> None:
    def first_in_its_thread() -> Tensor | None:
        layer, x_BI = make_layer(5, 6, sparsity=0.5), torch.randn(2, 6)
        with torch.inference_mode():
            layer(x_BI)
        layer(x_BI).sum().backward()
        return layer.U.grad

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(first_in_its_thread).result() is not None


def test_a_second_backward_is_refused_as_usual() -> None:
    layer = make_layer(5, 6, sparsity=0.5)
    loss = layer(torch.randn(2, 6)).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_a_second_backward_through_a_retained_graph_doubles_the_gradients() -> None:
    layer = float64_layer(5, 6, seed=1)
    once, x_BI = deepcopy(layer), torch.randn(2, 6).double()
    once(x_BI).square().sum().backward()
    loss = layer(x_BI).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    for found, expected in zip(factor_gradients([layer]), factor_gradients([once]), strict=True):
        torch.testing.assert_close(found, 2 * expected)


def test_a_parameter_changed_before_the_backward_is_noticed() -> None:
    layer = make_layer(5, 6)
    loss = layer(torch.randn(2, 6)).sum()
    with torch.no_grad():
        layer.V.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_of_gradients_are_refused() -> None:
    layer = make_layer(5, 6)
    loss = layer(torch.randn(2, 6)).square().sum()
    (gradient,) = torch.autograd.grad(loss, layer.U, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# What is kept


def saved_by_a_forward(layer: PSTLinear, x_BI: Tensor) -> list[Tensor]:
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x_BI)
    return saved


@pytest.mark.parametrize("pattern", [None, NOfM(2, 4)], ids=["unstructured", "2:4"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "autocast"])
def test_a_forward_keeps_its_input_and_one_bit_an_entry(
    *, half: bool, pattern: NOfM | None
) -> None:
    layer, x_BTI = make_layer(13, 20, sparsity=0.5, pattern=pattern), torch.randn(2, 3, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        saved = saved_by_a_forward(layer, x_BTI)
    own = {parameter.data_ptr() for parameter in layer.parameters()}
    kept = sum(tensor.nbytes for tensor in saved if tensor.data_ptr() not in own)
    assert kept == x_BTI.nbytes // (2 if half else 1) + -(-13 * 20 // 8)


def test_a_forward_keeps_the_input_itself() -> None:
    x_BI = torch.randn(3, 20)
    saved = saved_by_a_forward(make_layer(13, 20), x_BI)
    assert x_BI.data_ptr() in {tensor.data_ptr() for tensor in saved}
