"""Seeds decide orders, and a stratified order keeps the shares of the classes throughout."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.shuffle import shuffled, stratified

CLASSES = st.lists(st.integers(0, 2), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**31 - 1)


@settings(deadline=None)
@given(st.integers(0, 200), SEEDS)
def test_a_shuffle_keeps_every_number(count: int, seed: int) -> None:
    assert sorted(shuffled(count, seed)) == list(range(count))


def test_a_shuffle_is_the_same_today_and_in_a_later_release() -> None:
    assert shuffled(8, 7).tolist() == [6, 3, 4, 0, 2, 7, 5, 1]


@pytest.mark.parametrize("seeds", [(4,), (3, 1), (3, 2), (3, 0, 1)])
def test_other_seeds_shuffle_another_way(seeds: tuple[int, ...]) -> None:
    assert shuffled(30, 3).tolist() != shuffled(30, *seeds).tolist()


@settings(deadline=None)
@given(CLASSES, SEEDS)
def test_a_stratified_shuffle_keeps_every_row(classes: list[int], seed: int) -> None:
    assert sorted(stratified(np.array(classes), seed)) == list(range(len(classes)))


@settings(deadline=None)
@given(CLASSES, st.data())
def test_every_beginning_of_a_stratified_shuffle_has_nearly_the_shares_of_the_whole(
    classes: list[int], draw: st.DataObject
) -> None:
    order = stratified(np.array(classes), seed=0)
    length = draw.draw(st.integers(0, len(order)))
    beginning = Counter(classes[row] for row in order[:length])
    for number, count in Counter(classes).items():
        # One off by rounding its own place, and one by the other classes' rounding.
        assert abs(beginning[number] - length * count / len(classes)) <= 2


@settings(deadline=None)
@given(CLASSES, SEEDS)
def test_a_stratified_shuffle_lays_the_jth_of_n_at_j_and_a_half_nths(
    classes: list[int], seed: int
) -> None:
    order = stratified(np.array(classes), seed)
    sizes, seen = Counter(classes), Counter[int]()
    placed = []
    for number in (classes[row] for row in order):
        placed.append(((seen[number] + 0.5) / sizes[number], number))
        seen[number] += 1
    assert placed == sorted(placed)


def test_a_stratified_shuffle_shuffles_within_a_class() -> None:
    assert stratified(np.zeros(30, np.int64), 0).tolist() != list(range(30))


def test_classes_without_a_row_leave_no_gap() -> None:
    assert sorted(stratified(np.array([5, 2, 5]), 0)) == [0, 1, 2]
