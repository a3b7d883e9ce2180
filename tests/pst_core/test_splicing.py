"""A splice begins as one example and ends as another, and is never longer than both."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pst_core.batches import Example, Examples
from pst_core.splicing import LEAST, rows_of_epoch, splice, with_splices

LENGTHS = st.integers(1, 40)
SHARES = st.floats(LEAST, 1 - LEAST)
FIRST, LAST = 100, 200  # where the tokens of either begin


def example(start: int, length: int, *, second: int | None = None, target: float = 0.0) -> Example:
    return Example(np.arange(start, start + length, dtype=np.int32), target, second)


def of_lengths(lengths: Iterable[int]) -> Examples:
    return Examples.collect(
        example(100 * row, length, target=row) for row, length in enumerate(lengths)
    )


EXAMPLES = of_lengths(3 + row % 9 for row in range(50))


def tokens(examples: Examples) -> list[list[int]]:
    return [each.tokens.tolist() for each in examples]


def sources(spliced: Example) -> tuple[list[int], list[int]]:
    """Its tokens of the first example, and of the last."""
    found = spliced.tokens.tolist()
    return [each for each in found if each < LAST], [each for each in found if each >= LAST]


# Two examples


@given(st.integers(2, 40), st.integers(2, 40), SHARES)
def test_it_begins_as_the_one_and_ends_as_the_other(one: int, other: int, share: float) -> None:
    spliced = splice(example(FIRST, one), example(LAST, other), share)
    begin, end = sources(spliced)
    assert spliced.tokens.tolist() == begin + end
    assert begin == list(range(FIRST, FIRST + len(begin)))
    assert end == list(range(LAST + other - len(end), LAST + other))
    assert begin
    assert end


@given(LENGTHS, LENGTHS, SHARES)
def test_it_is_no_longer_than_the_longer_of_the_two(one: int, other: int, share: float) -> None:
    spliced = splice(example(FIRST, one), example(LAST, other), share)
    assert 1 <= len(spliced.tokens) <= max(one, other)


def test_both_are_cut_at_the_same_share_of_their_lengths() -> None:
    begin, end = sources(splice(example(FIRST, 10), example(LAST, 20), 0.3))
    assert (len(begin), len(end)) == (3, 14)


@given(st.lists(st.integers(2, 20), min_size=4, max_size=4), SHARES)
def test_the_segments_of_pairs_are_spliced_each_by_itself(sizes: list[int], share: float) -> None:
    one = example(FIRST, sizes[0] + sizes[1], second=sizes[0])
    other = example(LAST, sizes[2] + sizes[3], second=sizes[2])
    spliced = splice(one, other, share)
    assert spliced.second is not None
    texts = splice(
        Example(one.tokens[: sizes[0]], 0.0), Example(other.tokens[: sizes[2]], 0.0), share
    )
    pairs = splice(
        Example(one.tokens[sizes[0] :], 0.0), Example(other.tokens[sizes[2] :], 0.0), share
    )
    assert spliced.tokens[: spliced.second].tolist() == texts.tokens.tolist()
    assert spliced.tokens[spliced.second :].tolist() == pairs.tokens.tolist()


# A split


def test_the_examples_come_first_as_they_are() -> None:
    joined = with_splices(EXAMPLES, times=2, sets=1, seed=0)
    assert tokens(joined)[: len(EXAMPLES)] == tokens(EXAMPLES)
    assert joined.targets[: len(EXAMPLES)].tolist() == EXAMPLES.targets.tolist()


def test_as_many_more_follow_as_were_asked_for() -> None:
    assert len(with_splices(EXAMPLES, times=3, sets=2, seed=0)) == 7 * len(EXAMPLES)


def test_each_example_begins_one_splice_and_ends_one() -> None:
    spliced = tokens(with_splices(EXAMPLES, times=1, sets=1, seed=0))[len(EXAMPLES) :]
    assert [each[0] // 100 for each in spliced] == list(range(len(EXAMPLES)))
    assert sorted(each[-1] // 100 for each in spliced) == list(range(len(EXAMPLES)))


def test_the_seed_alone_decides() -> None:
    first, again, other = (
        tokens(with_splices(EXAMPLES, times=1, sets=1, seed=s)) for s in (0, 0, 1)
    )
    assert first == again != other


def test_no_two_times_are_alike() -> None:
    spliced = tokens(with_splices(EXAMPLES, times=2, sets=1, seed=0))[len(EXAMPLES) :]
    assert spliced[: len(EXAMPLES)] != spliced[len(EXAMPLES) :]


def test_no_two_sets_are_alike() -> None:
    spliced = tokens(with_splices(EXAMPLES, times=1, sets=2, seed=0))[len(EXAMPLES) :]
    assert spliced[: len(EXAMPLES)] != spliced[len(EXAMPLES) :]


@pytest.mark.parametrize(
    ("epoch", "rows"),
    [(0, [0, 1, 2, 3, 4, 5]), (1, [0, 1, 6, 7, 8, 9]), (2, [0, 1, 2, 3, 4, 5])],
)
def test_an_epoch_has_the_examples_and_the_next_set(epoch: int, rows: list[int]) -> None:
    assert rows_of_epoch(epoch, own=2, times=2, sets=2).tolist() == rows
