"""Exactly the asked number of entries is pruned: those of the lowest score, ties from the front."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from pst_core.masks import (
    NOfM,
    Selector,
    _keep_highest,
    _pack_on_device,
    _unpack_on_device,
    pack_bits,
    prune_count,
    unpack_bits,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])

# -0.0 and 0.0 are equal, and must tie.
FEW_VALUES = st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0])
ANY_FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
PATTERNS = (NOfM(2, 4), NOfM(4, 8))


def keep(score_OI: Tensor, sparsity: float, **options: NOfM) -> Tensor:
    """The mask of one logical matrix by a selector that has seen nothing before."""
    return Selector((score_OI.shape[0],), **options).select(score_OI, sparsity)


def plain_mask(score_OI: Tensor, sparsity: float) -> Tensor:
    """By a stable sort: of (score, flat index), in other words."""
    scores = score_OI.numpy().reshape(-1)
    mask = np.ones(scores.size, bool)
    mask[scores.argsort(kind="stable")[: int(sparsity * scores.size)]] = False
    return torch.from_numpy(mask).view(score_OI.shape)


def share_of(count: int, entries: int) -> float:
    """A sparsity that prunes exactly this many."""
    return (count + 0.5) / entries


@st.composite
def matrices(
    draw: st.DrawFn, values: st.SearchStrategy[float] = FEW_VALUES, multiple: int = 1
) -> Tensor:
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    cells = hnp.arrays(np.float32, (shape[0], shape[1] * multiple), elements=values)
    return torch.from_numpy(draw(cells))


# One selection


@settings(deadline=None)
@given(matrices() | matrices(ANY_FLOAT32), st.floats(0, 0.999))
def test_the_mask_is_that_of_a_stable_sort(score_OI: Tensor, sparsity: float) -> None:
    assert torch.equal(keep(score_OI, sparsity), plain_mask(score_OI, sparsity))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 0.999), st.integers(0, 2**31))
def test_exactly_the_integer_part_of_s_times_n_is_pruned(
    rows: int, columns: int, sparsity: float, seed: int
) -> None:
    score_OI = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    pruned = int((~keep(score_OI, sparsity)).count_nonzero())
    assert pruned == int(sparsity * (rows * columns)) == prune_count(sparsity, rows * columns)


@settings(deadline=None)
@given(st.lists(matrices(), min_size=1, max_size=4), st.floats(0, 0.999))
def test_each_logical_matrix_of_a_fused_one_is_pruned_alone(
    drawn: list[Tensor], sparsity: float
) -> None:
    columns = min(matrix.shape[1] for matrix in drawn)
    parts = [matrix[:, :columns] for matrix in drawn]
    selector = Selector(tuple(part.shape[0] for part in parts))
    expected = torch.cat([plain_mask(part, sparsity) for part in parts])
    assert torch.equal(selector.select(torch.cat(parts), sparsity), expected)


@devices
def test_the_lowest_scores_are_pruned(device: str) -> None:
    score_OI = torch.tensor([[0.4, 0.1], [0.3, -0.2]], device=device)
    assert keep(score_OI, 0.5).tolist() == [[True, False], [True, False]]


@devices
def test_lower_flat_index_is_pruned_first_among_equal_scores(device: str) -> None:
    mask = keep(torch.ones(2, 4, device=device), 0.625)
    assert mask.tolist() == [[False, False, False, False], [False, True, True, True]]


@devices
def test_zeros_of_either_sign_are_equal(device: str) -> None:
    mask = keep(torch.tensor([[0.0, -0.0, -0.0, 0.0]], device=device), 0.5)
    assert mask.tolist() == [[False, False, True, True]]


def test_nothing_is_pruned_at_sparsity_0() -> None:
    assert keep(torch.zeros(3, 3), 0.0).all()


def test_nothing_is_pruned_while_the_share_is_below_one_entry() -> None:
    assert keep(torch.arange(9.0).view(3, 3), 0.11).all()


def test_a_transposed_score_is_counted_in_its_own_order() -> None:
    score_OI = torch.zeros(2, 3).T
    assert keep(score_OI, 0.5).tolist() == [[False, False], [False, True], [True, True]]


def test_the_mask_is_written_where_it_is_asked_for() -> None:
    out = torch.zeros(2, 2, dtype=torch.bool)
    mask = Selector((2,)).select(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 0.5, out=out)
    assert mask is out
    assert out.tolist() == [[False, False], [True, True]]


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


# Selections one after the other: what was selected before never changes the answer.

Step = tuple[np.ndarray, float]


@st.composite
def small_sequences(draw: st.DrawFn) -> list[Step]:
    """Of matrices of any scores, ties and the largest of all among them."""
    entries = draw(st.integers(1, 40))
    values = hnp.arrays(
        np.float32, entries, elements=draw(st.sampled_from([FEW_VALUES, ANY_FLOAT32]))
    )
    shares = st.integers(0, entries - 1).map(lambda count: share_of(count, entries))
    return draw(st.lists(st.tuples(values, shares | st.just(0.0)), min_size=2, max_size=8))


@st.composite
def large_sequences(draw: st.DrawFn) -> list[Step]:
    """Of matrices that drift from step to step, jump by orders of magnitude, or are constant."""
    entries = draw(st.integers(1, 3000))
    noise = np.random.default_rng(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores: np.ndarray = noise.standard_normal(entries)
    steps: list[Step] = []
    for _ in range(draw(st.integers(2, 8))):
        scale = draw(st.sampled_from([1e-42, 1e-9, 0.01, 1.0, 1.0, 1e9, 5e37]))
        match draw(st.sampled_from(["drift", "drift", "fresh", "integers", "constant", "shift"])):
            case "drift":
                scores = scores + 0.01 * noise.standard_normal(entries)
            case "fresh":
                scores = noise.standard_normal(entries) * scale
            case "integers":
                scores = noise.integers(-2, 3, entries) * scale
            case "constant":
                scores = np.full(entries, scale)
            case "shift":
                scores = np.clip(scores + scale, -3e38, 3e38)
        count = draw(st.integers(0, entries - 1) | st.just(entries - 1))
        steps.append((scores.astype(dtype), share_of(count, entries)))
    return steps


def assert_memory_changes_nothing(steps: Sequence[Step]) -> None:
    selector = Selector((1,))
    for scores, sparsity in steps:
        score_OI = torch.from_numpy(scores)[None]
        mask = selector.select(score_OI, sparsity)
        assert torch.equal(mask, keep(score_OI, sparsity))
        assert torch.equal(mask, plain_mask(score_OI, sparsity))


@settings(deadline=None, max_examples=120)
@given(small_sequences())
def test_a_selection_is_a_fresh_selectors_whatever_came_before(steps: list[Step]) -> None:
    assert_memory_changes_nothing(steps)


@settings(deadline=None, max_examples=120)
@given(large_sequences())
def test_a_selection_is_a_fresh_selectors_after_drifts_and_jumps(steps: list[Step]) -> None:
    assert_memory_changes_nothing(steps)


def test_scores_that_change_by_more_than_the_largest_float32_are_selected_as_any() -> None:
    lowest = np.full(4, -3e38, np.float32)
    assert_memory_changes_nothing([(lowest, 0.5), (-lowest, 0.5), (lowest, 0.5)])


def test_selections_by_another_thread_in_between_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score_OI, selector, greater = torch.arange(100.0)[None], Selector((1,)), np.greater
    selector.select(score_OI, 0.5)

    def interrupted(scores: np.ndarray, bound: float, *, out: np.ndarray) -> None:
        monkeypatch.undo()
        greater(scores, bound, out=out)
        for _ in range(2):
            selector.select(score_OI + 1000, 0.5)

    monkeypatch.setattr(np, "greater", interrupted)
    assert torch.equal(selector.select(score_OI, 0.5), plain_mask(score_OI, 0.5))


def test_the_next_selection_searches_between_two_scores_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selector, searched = Selector((100,)), []
    score_OI = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    selector.select(score_OI, 0.5)
    partition = np.partition

    def watched(values: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
        searched.append(values.size)
        return partition(values, places)

    monkeypatch.setattr(np, "partition", watched)
    selector.select(score_OI + 1e-5, 0.5001)
    assert len(searched) == 1
    assert searched[0] < score_OI.numel() / 100


# N of M


@settings(deadline=None)
@given(st.data(), st.sampled_from(PATTERNS))
def test_exactly_n_of_every_m_are_kept_at_full_sparsity(data: st.DataObject, pattern: NOfM) -> None:
    score_OI = data.draw(matrices(multiple=pattern.m))
    mask_OI = keep(score_OI, pattern.sparsity, pattern=pattern)
    assert (mask_OI.view(-1, pattern.m).sum(1) == pattern.n).all()


@settings(deadline=None)
@given(st.data(), st.sampled_from(PATTERNS), st.floats(0, 0.999))
def test_each_group_of_m_is_pruned_like_a_matrix(
    data: st.DataObject, pattern: NOfM, sparsity: float
) -> None:
    score_OI = data.draw(matrices(multiple=pattern.m))
    groups = [plain_mask(group, sparsity) for group in score_OI.view(-1, pattern.m)]
    expected = torch.cat(groups).view_as(score_OI)
    assert torch.equal(keep(score_OI, sparsity, pattern=pattern), expected)


@pytest.mark.parametrize("m", [2, 4, 8, 16, 32])
def test_the_sparsity_of_a_pattern_prunes_all_but_n_of_m(m: int) -> None:
    counts = [prune_count(NOfM(n, m).sparsity, m) for n in range(1, m)]
    assert counts == [m - n for n in range(1, m)]


@devices
def test_a_pattern_keeps_the_highest_of_each_group(device: str) -> None:
    score_OI = torch.tensor([[4.0, 3, 2, 1, 5, 6, 7, 8]], device=device)
    mask = keep(score_OI, 0.5, pattern=NOfM(2, 4))
    assert mask.tolist() == [[True, True, False, False, False, False, True, True]]


# On a GPU


@settings(deadline=None)
@given(matrices() | matrices(ANY_FLOAT32), st.data())
def test_the_gpus_selection_is_that_of_a_stable_sort(score_OI: Tensor, data: st.DataObject) -> None:
    entries = score_OI.numel()
    count = data.draw(st.integers(1, max(1, entries - 1)))
    mask = torch.empty(entries, dtype=torch.bool)
    _keep_highest(score_OI.reshape(-1), count, mask)
    assert torch.equal(mask.view_as(score_OI), plain_mask(score_OI, share_of(count, entries)))


@needs_gpu
@settings(deadline=None, max_examples=30)
@given(matrices() | matrices(ANY_FLOAT32), st.floats(0, 0.999))
def test_a_gpu_selects_what_a_cpu_selects(score_OI: Tensor, sparsity: float) -> None:
    assert torch.equal(keep(score_OI.cuda(), sparsity).cpu(), keep(score_OI, sparsity))


# Bits

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))


@settings(deadline=None)
@given(MASKS.map(torch.from_numpy))
def test_packed_bits_are_the_mask_again(mask: Tensor) -> None:
    assert torch.equal(unpack_bits(pack_bits(mask), mask.shape), mask)


@settings(deadline=None)
@given(MASKS.map(torch.from_numpy))
def test_a_mask_takes_one_bit_an_entry(mask: Tensor) -> None:
    bits = pack_bits(mask)
    assert (bits.dtype, bits.shape) == (torch.uint8, (-(-mask.numel() // 8),))


@settings(deadline=None)
@given(MASKS.map(torch.from_numpy))
def test_the_gpus_bits_are_the_cpus(mask: Tensor) -> None:
    bits = pack_bits(mask)
    assert torch.equal(_pack_on_device(mask.reshape(-1)), bits)
    assert torch.equal(_unpack_on_device(bits, mask.numel()), mask.reshape(-1))


def test_a_transposed_mask_is_packed_in_its_own_order() -> None:
    mask = torch.tensor([[True, False, False], [True, True, False]]).T
    assert pack_bits(mask).tolist() == [0b001011]


@needs_gpu
def test_bits_pack_on_a_gpu() -> None:
    mask = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    bits = pack_bits(mask.cuda())
    assert torch.equal(bits.cpu(), pack_bits(mask))
    assert torch.equal(unpack_bits(bits, mask.shape).cpu(), mask)
