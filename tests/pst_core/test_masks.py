"""Exactly the asked number of entries is pruned: those of the lowest score, ties from the front."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pst_core.masks import keep_highest, prune_count


def plain_mask(score_OI: Tensor, sparsity: float) -> Tensor:
    """By a stable sort of (score, flat index)."""
    scores = score_OI.reshape(-1).tolist()
    order = sorted(range(len(scores)), key=lambda index: (scores[index], index))
    keep = torch.ones(len(scores), dtype=torch.bool)
    keep[order[: int(sparsity * len(scores))]] = False
    return keep.view_as(score_OI)


@st.composite
def scores_with_ties(draw: st.DrawFn) -> Tensor:
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    # -0.0 and 0.0 are equal, and must tie.
    values = st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0])
    cells = draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(cells).view(rows, columns)


@settings(deadline=None)
@given(scores_with_ties(), st.floats(0, 0.99))
def test_the_mask_is_that_of_a_stable_sort(score_OI: Tensor, sparsity: float) -> None:
    assert torch.equal(keep_highest(score_OI, sparsity), plain_mask(score_OI, sparsity))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 0.999), st.integers(0, 2**31))
def test_exactly_the_integer_part_of_s_times_n_is_pruned(
    rows: int, columns: int, sparsity: float, seed: int
) -> None:
    score_OI = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    pruned = int((~keep_highest(score_OI, sparsity)).count_nonzero())
    assert pruned == int(sparsity * (rows * columns)) == prune_count(sparsity, rows * columns)


def test_the_lowest_scores_are_pruned() -> None:
    score_OI = torch.tensor([[0.4, 0.1], [0.3, -0.2]])
    assert keep_highest(score_OI, 0.5).tolist() == [[True, False], [True, False]]


def test_lower_flat_index_is_pruned_first_among_equal_scores() -> None:
    mask = keep_highest(torch.ones(2, 4), 0.625)
    assert mask.tolist() == [[False, False, False, False], [False, True, True, True]]


def test_nothing_is_pruned_at_sparsity_0() -> None:
    assert keep_highest(torch.zeros(3, 3), 0.0).all()


def test_nothing_is_pruned_while_the_share_is_below_one_entry() -> None:
    assert keep_highest(torch.arange(9.0).view(3, 3), 0.11).all()


def test_a_transposed_score_is_counted_in_its_own_order() -> None:
    score_OI = torch.zeros(2, 3).T
    assert keep_highest(score_OI, 0.5).tolist() == [[False, False], [False, True], [True, True]]


def test_the_mask_of_a_trainable_score_carries_no_gradient() -> None:
    mask = keep_highest(torch.randn(3, 3, requires_grad=True), 0.5)
    assert (mask.dtype, mask.requires_grad) == (torch.bool, False)


@pytest.mark.parametrize(
    ("sparsity", "entries", "count"),
    [
        (0.29, 100, 28),  # the product is 28.999999999999996
        (0.57, 100, 56),  # the product is 56.99999999999999
        (0.7, 10, 7),  # exactly it would be 6.9999999999999996, and float64 rounds it up
        (0.1, 30, 3),
        (0.9, 589_824, 530_841),
        (0.999, 1000, 999),
        (0.5, 1, 0),
        (0.0, 10, 0),
    ],
)
def test_the_count_is_the_integer_part_of_the_float64_product(
    sparsity: float, entries: int, count: int
) -> None:
    assert prune_count(sparsity, entries) == count
