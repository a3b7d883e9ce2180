"""Reported numbers are those of their definitions, and what cannot be is refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pst_core.report import Z_95, Accuracy, Cost, PrunedMatrix, wilson_interval


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    total = draw(st.integers(1, 100_000))
    return draw(st.integers(0, total)), total


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (8, 10, 0.490162, 0.943318),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (81, 263, 0.255289, 0.366213),  # Newcombe 1998, table 1
        (15, 148, 0.062386, 0.160500),
    ],
)
def test_the_interval_is_wilsons(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-4)


@settings(deadline=None)
@given(counts())
def test_the_interval_holds_the_share_and_lies_in_0_to_1(count: tuple[int, int]) -> None:
    low, high = wilson_interval(*count)
    share = count[0] / count[1]
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


@settings(deadline=None)
@given(counts())
def test_the_bounds_are_where_the_share_is_just_z_standard_errors_away(
    count: tuple[int, int],
) -> None:
    correct, total = count
    for bound in wilson_interval(correct, total):
        distance = Z_95 * math.sqrt(bound * (1 - bound) / total)
        assert abs(correct / total - bound) == pytest.approx(distance, rel=1e-6, abs=1e-7)


def test_an_accuracy_is_the_share_of_correct_answers_with_its_interval() -> None:
    accuracy = Accuracy.of(correct=8, total=10, majority=0.6)
    assert (accuracy.value, accuracy.majority) == (0.8, 0.6)
    assert (accuracy.low, accuracy.high) == wilson_interval(8, 10)


def test_an_accuracy_comes_back_from_its_json_to_the_last_bit() -> None:
    accuracy = Accuracy.of(correct=1, total=3, majority=2 / 3)
    assert Accuracy.model_validate_json(accuracy.model_dump_json()) == accuracy


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="majority"):
        Accuracy.of(correct=1, total=2, majority=value)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValidationError, match="pruned"):
        PrunedMatrix(name="a.weight", shape=(2, 2), pruned=-1)


def test_an_infinite_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Cost(steps=1, seconds=math.inf, step_seconds=1.0, peak_memory_bytes=1)


def test_an_unknown_field_is_refused() -> None:
    text = '{"steps": 1, "seconds": 1, "step_seconds": 1, "peak_memory_bytes": 1, "watts": 1}'
    with pytest.raises(ValidationError, match="watts"):
        Cost.model_validate_json(text)
