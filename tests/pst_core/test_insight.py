"""What is told of masks and scores is what they are, counted plainly."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pst_core.insight import MaskWatch, variance_shares
from pst_core.layers import MaskedLinear, PSTLinear, SparseLinear


def scored(*shapes: tuple[int, int]) -> dict[str, SparseLinear]:
    """Layers that prune half of their entries, by scores that a test may set."""
    torch.manual_seed(0)
    layers: dict[str, SparseLinear] = {
        str(number): MaskedLinear(torch.randn(shape), score_OI=nn.Parameter(torch.rand(shape)))
        for number, shape in enumerate(shapes)
    }
    for layer in layers.values():
        layer.sparsity = 0.5
    return layers


def redraw(layer: SparseLinear) -> None:
    nn.init.uniform_(layer.get_parameter("S"))


def all_masks(layers: dict[str, SparseLinear]) -> Tensor:
    return torch.cat([layer.mask().flatten() for layer in layers.values()])


def pst(out: int, inputs: int) -> PSTLinear:
    layer = PSTLinear(torch.randn(out, inputs), alpha1=0.5, alpha2=0.25, beta=0.75, rank=2)
    for factor in (layer.V, layer.B, layer.R, layer.C):
        nn.init.normal_(factor)
    return layer


def terms(layer: PSTLinear) -> list[NDArray[np.float64]]:
    """|W'|, α1·A B and α2·(R + C), by numpy."""
    W, U, V, A, B, R, C = (
        parameter.detach().double().numpy()
        for parameter in (layer.weight, layer.U, layer.V, layer.A, layer.B, layer.R, layer.C)
    )
    return [np.abs(W + 0.75 * U @ V), 0.5 * A @ B, 0.25 * (R[:, None] + C[None, :])]


def test_the_first_look_at_masks_tells_nothing() -> None:
    assert MaskWatch(scored((4, 6))).churn() is None


def test_without_layers_no_look_tells_anything() -> None:
    watch = MaskWatch({})
    assert [watch.churn() for _ in range(2)] == [None, None]


def test_masks_that_stay_have_no_churn() -> None:
    watch = MaskWatch(scored((4, 6)))
    watch.churn()
    assert watch.churn() == 0.0


def test_churn_is_the_share_of_all_entries_that_changed_since_the_last_look() -> None:
    # 15 and 77 entries: neither fills its last byte.
    layers = scored((3, 5), (7, 11))
    watch = MaskWatch(layers)
    watch.churn()
    for _ in range(3):
        before = all_masks(layers)
        for layer in layers.values():
            redraw(layer)
        changed = int((all_masks(layers) != before).sum())
        assert changed
        assert watch.churn() == changed / 92


def test_entries_that_come_back_between_looks_do_not_count() -> None:
    layers = scored((4, 6))
    watch = MaskWatch(layers)
    watch.churn()
    for sparsity in (0.9, 0.5):
        layers["0"].sparsity = sparsity
    assert watch.churn() == 0.0


def test_looking_changes_no_layer() -> None:
    layers = scored((4, 6))
    before = all_masks(layers)
    MaskWatch(layers).churn()
    assert torch.equal(all_masks(layers), before)


def test_shares_are_those_of_the_terms_variances_weighted_by_entries() -> None:
    torch.manual_seed(0)
    layers = {"a": pst(8, 12), "b": pst(20, 6)}
    variances = sum(
        layer.weight.numel() * np.array([term.var() for term in terms(layer)])
        for layer in layers.values()
    )
    expected = variances / np.sum(variances)
    shares = variance_shares(layers)
    assert shares is not None
    found = (shares.weight, shares.low_rank, shares.row_column)
    assert found == pytest.approx(expected.tolist(), rel=1e-5)
    assert sum(found) == pytest.approx(1.0, abs=1e-12)


def test_before_training_the_weight_decides_alone() -> None:
    shares = variance_shares({"a": PSTLinear(torch.randn(4, 6))})
    assert shares is not None
    assert (shares.weight, shares.low_rank, shares.row_column) == (1.0, 0.0, 0.0)


def test_layers_without_learned_scores_do_not_count() -> None:
    torch.manual_seed(0)
    layer = pst(8, 12)
    assert variance_shares({"a": layer, **scored((4, 6))}) == variance_shares({"a": layer})


def test_without_learned_scores_there_are_no_shares() -> None:
    assert variance_shares(scored((4, 6))) is None
    assert variance_shares({}) is None
