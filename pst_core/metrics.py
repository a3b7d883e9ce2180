"""Metrics on numbers: classes, regression values and likelihoods. Those on text stand beside.

A metric is one function, which gives a Sample to estimate from, and one line in `METRICS`. Where
its formula divides zero by zero (constant answers, one class, one row) it is 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pst_core.bootstrap import Floats, Sample, estimate, mean, weighted_mean
from pst_core.report import Scores

Numbers = NDArray[np.integer | np.floating]

# exp of more is beyond a float.
LARGEST_EXPONENT = float(np.log(np.finfo(np.float64).max))


def accuracy(predictions: Numbers, targets: Numbers) -> Sample:
    """The share of predictions that are right."""
    return mean((predictions == targets).astype(np.float64))


def f1(predictions: Numbers, targets: Numbers) -> Sample:
    """F1 = 2 TP / (2 TP + FP + FN) of class 1 if the targets know 0 and 1 alone; macro otherwise.

    Macro is the plain mean over the classes that occur, be it as target or as prediction.
    """
    counts = _Counts.of(predictions, targets)
    is_averaged_K = (counts.classes == 1) | (not _is_binary(targets))

    def at(weights: Floats) -> float:
        right_K, predicted_K, actual_K = (each[is_averaged_K] for each in counts.at(weights))
        occurrences_K = predicted_K + actual_K
        f1_K = 2 * right_K / np.maximum(occurrences_K, 1)
        return float(f1_K.sum() / max(np.count_nonzero(occurrences_K), 1))

    return Sample(len(targets), at)


def matthews(predictions: Numbers, targets: Numbers) -> Sample:
    """The correlation coefficient of Matthews (1975), for K classes as R_K of Gorodkin (2004).

    With c right answers of s, class k being predicted p_k and true t_k times:
    (c s − Σ p_k t_k) / √((s² − Σ p_k²) (s² − Σ t_k²)).
    """
    counts = _Counts.of(predictions, targets)

    def at(weights: Floats) -> float:
        right_K, predicted_K, actual_K = counts.at(weights)
        rows = actual_K.sum()
        covariance = right_K.sum() * rows - (predicted_K * actual_K).sum()
        # Zero where all answers, or all targets, are one class: nothing correlates then.
        variances = [rows**2 - (each_K**2).sum() for each_K in (predicted_K, actual_K)]
        return float(covariance / np.sqrt(np.prod(variances))) if all(variances) else 0.0

    return Sample(len(targets), at)


def pearson(predictions: Numbers, targets: Numbers) -> Sample:
    """The linear correlation coefficient, cov(x, y) / (σ_x σ_y)."""
    x, y = predictions.astype(np.float64), targets.astype(np.float64)
    return Sample(len(y), lambda weights: _correlation(x, y, weights))


def spearman(predictions: Numbers, targets: Numbers) -> Sample:
    """The rank correlation: Pearson's of the ranks, which ties share (Spearman 1904).

    Each resample is ranked anew: to resample the ranks themselves would be another statistic,
    with another spread.
    """
    x_ranks, y_ranks = _ranks(predictions), _ranks(targets)
    return Sample(
        len(targets),
        lambda weights: _correlation(x_ranks(weights), y_ranks(weights), weights),
    )


def mse(predictions: Numbers, targets: Numbers) -> Sample:
    """The mean squared error."""
    return mean((predictions.astype(np.float64) - targets) ** 2)


def perplexity(negative_log_likelihoods: Numbers, token_counts: Numbers) -> Sample:
    """exp(Σ NLL / Σ tokens) over blocks of text, in nats, capped at the largest float.

    Blocks are resampled whole: the tokens within one depend on each other. It is 1 where no
    token is predicted.
    """
    nll = negative_log_likelihoods.astype(np.float64)

    def at(weights: Floats) -> float:
        tokens = max((weights * token_counts).sum(), 1)
        return float(np.exp(min((weights * nll).sum() / tokens, LARGEST_EXPONENT)))

    return Sample(len(nll), at)


def majority(targets: Numbers) -> float:
    """The most frequent class; of equally frequent ones the lowest."""
    classes_K, counts_K = np.unique(targets, return_counts=True)
    return float(classes_K[counts_K.argmax()])


def positive_or_majority(targets: Numbers) -> float:
    """The class whose F1 is the most to be had by a constant."""
    return 1.0 if _is_binary(targets) else majority(targets)


@dataclass(frozen=True)
class Metric:
    sample: Callable[[Numbers, Numbers], Sample]
    """From predictions and targets, in their order."""
    best_constant: Callable[[Numbers], float] | None = None
    """From the targets to the one answer that scores best; None where there is no such thing."""


def _average(targets: Numbers) -> float:
    return float(targets.mean(dtype=np.float64))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, majority),
    "f1": Metric(f1, positive_or_majority),
    "matthews": Metric(matthews, majority),
    "pearson": Metric(pearson, _average),
    "spearman": Metric(spearman, _average),
    "mse": Metric(mse, _average),
    "perplexity": Metric(perplexity),
}


def scores(metric_names: Sequence[str], predictions: Numbers, targets: Numbers) -> Scores:
    """Each metric with its interval, the first as the primary.

    Args:
        metric_names: Keys of `METRICS`.
        predictions: Classes or values, one a row; not logits.
        targets: What they should be.

    Raises:
        ValueError: There are no rows, or not as many predictions as targets.
    """
    return Scores(
        primary=metric_names[0],
        metrics={name: estimate(_sample(name, predictions, targets)) for name in metric_names},
        rows=len(targets),
        constant=_constant(metric_names[0], targets),
    )


def perplexity_scores(negative_log_likelihoods: Numbers, token_counts: Numbers) -> Scores:
    """The perplexity of text, from each block's summed −log p (nats) and predicted tokens."""
    return scores(("perplexity",), negative_log_likelihoods, token_counts)


def _sample(metric_name: str, predictions: Numbers, targets: Numbers) -> Sample:
    # numpy would stretch one prediction over all targets.
    if predictions.shape != targets.shape or targets.ndim != 1:
        raise ValueError(
            f"predictions of shape {predictions.shape} and targets of {targets.shape}: "
            "give one of each a row"
        )
    return METRICS[metric_name].sample(predictions, targets)


def _constant(metric_name: str, targets: Numbers) -> float | None:
    best_constant = METRICS[metric_name].best_constant
    if best_constant is None:
        return None
    # The yardstick of having learned nothing.
    answers = np.full(len(targets), best_constant(targets))
    return _sample(metric_name, answers, targets).value()


def _is_binary(targets: Numbers) -> bool:
    """By the targets alone, so that a model and its baseline are measured alike."""
    return bool(np.isin(targets, (0, 1)).all())


@dataclass(frozen=True)
class _Counts:
    """How often each of K classes is predicted rightly, predicted at all, and true."""

    classes: Numbers
    predicted: NDArray[np.intp]
    actual: NDArray[np.intp]

    @classmethod
    def of(cls, predictions: Numbers, targets: Numbers) -> "_Counts":
        both = np.concatenate((predictions, targets))
        classes, codes = np.unique(both, return_inverse=True)
        return cls(classes, *np.split(codes, 2))

    def at(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        def count(codes: NDArray[np.intp], weights: Floats) -> Floats:
            return np.asarray(np.bincount(codes, weights, len(self.classes)), np.float64)

        right = weights * (self.predicted == self.actual)
        return (
            count(self.actual, right),
            count(self.predicted, weights),
            count(self.actual, weights),
        )


def _ranks(values: Numbers) -> Callable[[Floats], Floats]:
    """From how often each row counts to its rank among them, from 1; ties share their mean."""
    distinct_D, codes = np.unique(values, return_inverse=True)

    def at(weights: Floats) -> Floats:
        counts_D = np.bincount(codes, weights, len(distinct_D))
        ranks_D: Floats = counts_D.cumsum() - (counts_D - 1) / 2
        return ranks_D[codes]

    return at


def _correlation(x: Floats, y: Floats, weights: Floats) -> float:
    counted = weights > 0
    x, y, weights = x[counted], y[counted], weights[counted]
    # Asked of the values: rounding can leave a constant a variance.
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    dx, dy = _from_the_mean(x, weights), _from_the_mean(y, weights)
    covariance = weighted_mean(dx * dy, weights)
    variances = weighted_mean(dx**2, weights) * weighted_mean(dy**2, weights)
    return float(np.clip(covariance / np.sqrt(variances), -1, 1))


def _from_the_mean(values: Floats, weights: Floats) -> Floats:
    """Centred, and scaled to at most 1, which no correlation minds: no square then underflows."""
    centred = values - weighted_mean(values, weights)
    scaled: Floats = centred / np.abs(centred).max()
    return scaled
