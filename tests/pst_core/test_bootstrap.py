"""Intervals are the percentiles of the metric on resampled rows, the same ones for a pair."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.bootstrap import Floats, Sample, estimate, mean, paired_difference
from pst_core.report import Estimate

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def width(found: Estimate) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def wilson_interval(share: float, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    z = 1.959963984540054
    centre = share + z**2 / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return (centre - reach) / (1 + z**2 / total), (centre + reach) / (1 + z**2 / total)


def noise(seed: int, rows: int) -> Floats:
    return np.random.default_rng(seed).normal(size=rows)


def test_the_bounds_are_percentiles_of_the_metric_on_rows_drawn_with_replacement() -> None:
    values = noise(1, 50)
    generator = np.random.default_rng(0)
    means = [values[generator.integers(50, size=50)].mean() for _ in range(1000)]
    found = estimate(mean(values))
    assert (found.low, found.high) == pytest.approx(np.percentile(means, (2.5, 97.5)), rel=1e-12)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_the_interval_of_a_share_is_close_to_wilsons(share: float) -> None:
    hits = np.repeat((1.0, 0.0), (round(1000 * share), round(1000 * (1 - share))))
    found = estimate(mean(hits))
    assert (found.low, found.high) == pytest.approx(wilson_interval(share, 1000), abs=0.005)


def test_the_interval_holds_the_truth_in_about_95_of_100_cases() -> None:
    found = [estimate(mean(noise(seed, 60))) for seed in range(100)]
    held = sum(one.low is not None and one.low <= 0 <= (one.high or 0) for one in found)
    assert 90 <= held <= 99


@settings(deadline=None, max_examples=20)
@given(numbers)
def test_the_interval_holds_the_value(values: list[float]) -> None:
    found = estimate(mean(np.array(values)))
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


def test_an_interval_that_misses_the_value_is_stretched_to_it() -> None:
    # The number of distinct rows is greatest without resampling.
    distinct = Sample(20, lambda weights: float(np.count_nonzero(weights)))
    found = estimate(distinct)
    assert found.high == found.value == 20


def test_the_same_values_give_the_same_estimate_to_the_last_bit() -> None:
    assert estimate(mean(noise(1, 99))) == estimate(mean(noise(1, 99)))


def test_the_interval_narrows_with_the_root_of_the_rows() -> None:
    few, many = (width(estimate(mean(noise(1, rows)))) for rows in (100, 10_000))
    assert few / many == pytest.approx(10, rel=0.2)


def test_one_row_gives_an_interval_of_no_width() -> None:
    assert estimate(mean(np.array([0.1]))) == Estimate(value=0.1, low=0.1, high=0.1)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean(np.array([]))


def test_a_difference_is_resampled_with_the_same_rows_for_both() -> None:
    model, baseline = noise(1, 50), noise(2, 50)
    found = paired_difference(mean(model), mean(baseline))
    expected = estimate(mean(model - baseline))
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_a_difference_of_equals_is_zero_with_certainty() -> None:
    sample = mean(noise(1, 50))
    assert paired_difference(sample, sample) == Estimate(value=0, low=0, high=0)


def test_a_paired_interval_is_narrower_than_each_of_two_that_agree_on_most_rows() -> None:
    baseline = noise(1, 200)
    model = baseline + 0.1 * noise(2, 200)
    paired = paired_difference(mean(model), mean(baseline))
    assert width(paired) < 0.2 * width(estimate(mean(baseline)))


def test_samples_of_different_length_are_not_paired() -> None:
    with pytest.raises(ValueError, match="3 rows cannot be paired with 4"):
        paired_difference(mean(np.ones(3)), mean(np.ones(4)))
