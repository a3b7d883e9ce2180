"""Confidence intervals of metrics by resampling rows. What the metrics are stands elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pst_core.report import Estimate

RESAMPLES = 1000
# One for all, so that a model and its baseline are resampled alike.
SEED = 0
BOUNDS = (0.025, 0.975)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A metric on given rows, as a function of how often each of them counts (N rows)."""

    rows: int
    at: Callable[[Floats], float]
    """From the weights, N whole numbers that sum to N, to the metric."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError("there are no rows to measure on: give at least one")

    def value(self) -> float:
        """The metric with each row counted once."""
        return self.at(np.ones(self.rows))

    def resampled(self) -> Floats:
        """The metric on each resample; samples of equally many rows are resampled alike."""
        return np.array([self.at(weights) for weights in _resamples(self.rows)])

    def measured(self) -> "Measured":
        return Measured(self.rows, self.value(), self.resampled())


@dataclass(frozen=True, eq=False)
class Measured:
    """All of a sample that is compared with another's, as numbers that can be kept.

    Args:
        rows: How many it was measured on.
        value: The metric with each row counted once.
        resampled_S: The metric on each resample.
    """

    rows: int
    value: float
    resampled_S: Floats


def mean(values: Floats) -> Sample:
    """The metric that is the mean of a number of each row."""
    return Sample(len(values), lambda weights: weighted_mean(values, weights))


def weighted_mean(values: Floats, weights: Floats) -> float:
    """Σ w v / Σ w, summed by numpy: a BLAS sums in an order that its threads decide."""
    return float((weights * values).sum() / weights.sum())


def estimate(sample: Sample) -> Estimate:
    """The metric with its percentile interval (Efron & Tibshirani 1993, section 13.3)."""
    return _with_interval(sample.value(), sample.resampled())


def paired_difference(sample: Sample, baseline: Sample | Measured) -> Estimate:
    """A metric minus the baseline's, both on the same rows of each resample (Koehn 2004).

    Rows that are hard for both cancel, which makes the interval narrower than those of the two
    suggest.

    Raises:
        ValueError: The two are not on equally many rows.
    """
    if sample.rows != baseline.rows:
        raise ValueError(f"{sample.rows} rows cannot be paired with {baseline.rows}")
    other = baseline.measured() if isinstance(baseline, Sample) else baseline
    return _with_interval(sample.value() - other.value, sample.resampled() - other.resampled_S)


def _resamples(rows: int) -> Iterator[Floats]:
    """How often each row is drawn when N rows are drawn with replacement, again and again."""
    generator = np.random.default_rng(SEED)
    for _ in range(RESAMPLES):
        drawn = generator.integers(rows, size=rows)
        yield np.bincount(drawn, minlength=rows).astype(np.float64)


def _with_interval(value: float, resampled_S: Floats) -> Estimate:
    """The percentiles, stretched to the value where they miss it.

    They can by rounding, where all resamples agree, or where a metric is biased on resamples.
    """
    low, high = np.quantile(resampled_S, BOUNDS)
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))
