"""The sparsity rises by the cubic schedule; the learning rate rises, then falls."""

import math
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.schedule import learning_rate_factor, sparsity_at

shares = st.floats(0, 0.49)
DECAYS: tuple[Literal["linear", "cosine"], ...] = ("linear", "cosine")
totals = st.integers(1, 300)
targets = st.floats(0.01, 0.99)


def sparsities(total: int, target: float, warmup: float, hold: float) -> list[float]:
    return [
        sparsity_at(step, total, target=target, initial_warmup=warmup, final_hold=hold)
        for step in range(1, total + 1)
    ]


@pytest.mark.parametrize(
    ("step", "sparsity"),
    [
        (1, 0.0),
        (10, 0.0),  # t = iT
        (25, 0.9 * (1 - 0.75**3)),
        (40, 0.9 * (1 - 0.5**3)),
        (70, 0.9),  # t = T - fT
        (71, 0.9),
        (100, 0.9),
    ],
)
def test_the_sparsity_follows_the_papers_schedule(step: int, sparsity: float) -> None:
    found = sparsity_at(step, 100, target=0.9, initial_warmup=0.1, final_hold=0.3)
    assert found == pytest.approx(sparsity, rel=1e-12)


@settings(deadline=None)
@given(totals, targets, shares, shares)
def test_the_sparsity_never_falls(total: int, target: float, warmup: float, hold: float) -> None:
    found = sparsities(total, target, warmup, hold)
    assert found == sorted(found)


@settings(deadline=None)
@given(totals, targets, shares, shares)
def test_the_sparsity_is_exactly_0_in_the_warmup_and_the_target_in_the_hold(
    total: int, target: float, warmup: float, hold: float
) -> None:
    for step, sparsity in enumerate(sparsities(total, target, warmup, hold), start=1):
        if step <= warmup * total:
            assert sparsity == 0
        if step > total - hold * total:
            assert sparsity == target


@settings(deadline=None)
@given(totals, targets, shares, shares)
def test_the_last_step_trains_at_exactly_the_target(
    total: int, target: float, warmup: float, hold: float
) -> None:
    assert sparsities(total, target, warmup, hold)[-1] == target


@settings(deadline=None)
@given(totals, targets, shares, shares)
def test_the_sparsity_is_never_below_0_or_above_the_target(
    total: int, target: float, warmup: float, hold: float
) -> None:
    assert all(0 <= sparsity <= target for sparsity in sparsities(total, target, warmup, hold))


def test_the_learning_rate_rises_linearly_to_the_base_rate() -> None:
    factors = [learning_rate_factor(step, 100, warmup=0.1) for step in range(1, 11)]
    assert factors == pytest.approx([step / 10 for step in range(1, 11)])


def test_the_learning_rate_falls_linearly_after_the_warmup() -> None:
    factors = [learning_rate_factor(step, 100, warmup=0.1) for step in range(10, 101)]
    falls = [before - after for before, after in pairwise(factors)]
    assert falls == pytest.approx([1 / 91] * 90)


@settings(deadline=None)
@given(totals, st.floats(0, 0.99))
def test_no_step_is_wasted_on_a_rate_of_0_or_above_the_base_rate(total: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, total, warmup=warmup) for step in range(1, total + 1)]
    assert all(0 < factor <= 1 for factor in factors)


def test_a_cosine_decay_falls_along_half_a_cosine_after_the_warmup() -> None:
    factors = [
        learning_rate_factor(step, 100, warmup=0.1, decay="cosine") for step in range(10, 101)
    ]
    expected = [(1 + math.cos(math.pi * done / 91)) / 2 for done in range(91)]
    assert factors == pytest.approx(expected)


def test_a_cosine_decay_rises_as_the_linear_one_does() -> None:
    rises = [
        [learning_rate_factor(step, 100, warmup=0.1, decay=decay) for step in range(1, 11)]
        for decay in DECAYS
    ]
    assert rises[0] == rises[1]


def test_a_cosine_decay_is_above_the_linear_one_first_and_below_it_then() -> None:
    linear, cosine = (
        [learning_rate_factor(step, 100, warmup=0.0, decay=decay) for step in range(1, 101)]
        for decay in DECAYS
    )
    assert all(slow >= fast for slow, fast in zip(cosine[:50], linear[:50], strict=True))
    assert all(fast <= slow for fast, slow in zip(cosine[50:], linear[50:], strict=True))


@settings(deadline=None)
@given(totals, st.floats(0, 0.99))
def test_a_cosine_decay_never_rises_and_wastes_no_step(total: int, warmup: float) -> None:
    factors = [
        learning_rate_factor(step, total, warmup=warmup, decay="cosine")
        for step in range(1, total + 1)
    ]
    falling = [factor for step, factor in enumerate(factors, 1) if step > warmup * total]
    assert falling == sorted(falling, reverse=True)
    assert all(0 < factor <= 1 for factor in factors)
