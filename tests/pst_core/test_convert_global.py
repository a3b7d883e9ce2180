"""With the scope `global` one threshold stands over the scores of all layers."""

import pytest
import torch
from torch import Tensor, nn

from pst_core.convert import Converted, Pruning, convert, materialize
from pst_core.layers import MaskedLinear
from pst_core.recipes import Hyperparameters
from pst_core.schedule import sparsity_at
from pst_core.spec import Method
from tests.pst_core.families import FAMILIES, outputs

HYPER = Hyperparameters(rank=2, score_rank=2)


def converted_globally(family: str, method: Method = "pst") -> Converted:
    """Layers whose matrices differ in the size of their entries."""
    converted = convert(FAMILIES[family].build(), Pruning(method=method, scope="global"), HYPER)
    with torch.no_grad():
        for number, layer in enumerate(converted.layers.values()):
            layer.weight.mul_(1 + number / 4)
            if method == "pst":
                nn.init.normal_(layer.get_parameter("R"), std=0.01)
    return converted


def masks(converted: Converted) -> Tensor:
    return torch.cat([layer.mask().flatten() for layer in converted.layers.values()])


def plain_mask(converted: Converted, sparsity: float) -> Tensor:
    """All scores one after the other, sorted at once; of equal ones the first is pruned first."""
    scores = torch.cat([layer.score().flatten() for layer in converted.layers.values()])
    keep = torch.ones_like(scores, dtype=torch.bool)
    keep[scores.argsort(stable=True)[: int(sparsity * scores.numel())]] = False
    return keep


@pytest.mark.parametrize("family", ["bert", "gpt2", "phi3"])
@pytest.mark.parametrize("sparsity", [0.0, 1e-4, 0.31, 0.5, 0.97])
def test_what_is_kept_is_what_one_sort_over_all_scores_keeps(family: str, sparsity: float) -> None:
    converted = converted_globally(family)
    converted.set_sparsity(sparsity)
    assert torch.equal(masks(converted), plain_mask(converted, sparsity))


@pytest.mark.parametrize("sparsity", [0.001, 0.123, 0.5, 0.9])
def test_of_equal_scores_those_of_the_first_layers_go_first(sparsity: float) -> None:
    converted = converted_globally("bert", "magnitude")
    with torch.no_grad():
        for layer in converted.layers.values():
            # One decimal: a few dozen different scores, most of them in every layer.
            layer.weight.copy_(layer.weight.mul(10).round().div(10))
    converted.set_sparsity(sparsity)
    assert torch.equal(masks(converted), plain_mask(converted, sparsity))


def test_each_layer_loses_exactly_what_is_allotted_whatever_its_share_rounds_to() -> None:
    # 1/49 · 49 is less than 1 in float64.
    layers = {name: MaskedLinear(torch.ones(7, 7)) for name in "ab"}
    converted = Converted(layers, scope="global")
    for count in range(98):
        converted.set_sparsity((count + 0.5) / 98)
        pruned = [int((~layer.mask()).sum()) for layer in layers.values()]
        assert pruned == [min(count, 49), max(count - 49, 0)]


def test_the_share_of_all_entries_is_exact_while_it_rises_and_scores_move() -> None:
    converted = converted_globally("bert")
    entries = sum(layer.weight.numel() for layer in converted.layers.values())
    for step in range(1, 21):
        sparsity = sparsity_at(step, 20, target=0.9, initial_warmup=0.1, final_hold=0.3)
        converted.set_sparsity(sparsity)
        assert int((~masks(converted)).sum()) == int(sparsity * entries)
        assert torch.equal(masks(converted), plain_mask(converted, sparsity))
        with torch.no_grad():
            for layer in converted.layers.values():
                layer.get_parameter("C").add_(torch.randn_like(layer.get_parameter("C")) * 0.01)


def test_layers_of_smaller_entries_become_sparser() -> None:
    converted = converted_globally("bert", "magnitude")
    converted.set_sparsity(0.5)
    shares = [1 - float(layer.mask().float().mean()) for layer in converted.layers.values()]
    assert shares[0] > 0.6
    assert shares[-1] < 0.4


def test_fused_matrices_have_no_thresholds_of_their_own() -> None:
    converted = converted_globally("phi3")
    assert [layer.selector.parts for layer in converted.layers.values()] == [
        (layer.weight.shape[0],) for layer in converted.layers.values()
    ]


def test_the_forward_prunes_what_was_allotted() -> None:
    model = FAMILIES["bert"].build()
    converted = convert(model, Pruning(method="pst", scope="global"), HYPER)
    converted.set_sparsity(0.7)
    keep = plain_mask(converted, 0.7)
    before = outputs(model)
    stored, matrices = materialize(model, converted)
    assert torch.equal(torch.cat([mask.flatten() for mask in stored.values()]), keep)
    assert sum(matrix.pruned for matrix in matrices) == int(0.7 * keep.numel())
    torch.testing.assert_close(outputs(model), before)


def test_without_layers_there_is_nothing_to_allot() -> None:
    Converted({}, scope="global").set_sparsity(0.5)
