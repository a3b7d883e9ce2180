"""Metrics are those of their definitions, on all rows and on any resample, and always finite."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.bootstrap import paired_difference
from pst_core.metrics import (
    METRICS,
    Numbers,
    majority,
    perplexity_scores,
    positive_or_majority,
    scores,
)
from pst_core.report import Estimate

CLASS_METRICS = ("accuracy", "f1", "matthews")
VALUE_METRICS = ("pearson", "spearman", "mse")

Pairs = list[tuple[float, float]]
Definition = Callable[[Sequence[float], Sequence[float]], float]


def plain_accuracy(predictions: Sequence[float], targets: Sequence[float]) -> float:
    return sum(p == t for p, t in zip(predictions, targets, strict=True)) / len(targets)


def plain_f1_of(one: float, predictions: Sequence[float], targets: Sequence[float]) -> float:
    pairs = list(zip(predictions, targets, strict=True))
    right = sum(p == one and t == one for p, t in pairs)
    wrong = sum((p == one) != (t == one) for p, t in pairs)
    return 2 * right / (2 * right + wrong) if right + wrong else 0.0


def plain_macro_f1(predictions: Sequence[float], targets: Sequence[float]) -> float:
    classes = {*predictions, *targets}
    return sum(plain_f1_of(one, predictions, targets) for one in classes) / len(classes)


def plain_matthews(predictions: Sequence[float], targets: Sequence[float]) -> float:
    """Gorodkin 2004: the covariance of the two tables of indicators, over their deviations."""
    classes = sorted({*predictions, *targets})
    tables = [np.array([[v == k for k in classes] for v in vs]) for vs in (predictions, targets)]
    x, y = (table - table.mean(axis=0) for table in tables)
    variance = (x * x).sum() * (y * y).sum()
    return float((x * y).sum() / math.sqrt(variance)) if variance > 1e-9 else 0.0


def plain_pearson(predictions: Sequence[float], targets: Sequence[float]) -> float:
    if len(set(predictions)) == 1 or len(set(targets)) == 1:
        return 0.0
    return float(np.corrcoef(predictions, targets)[0, 1])


def plain_spearman(predictions: Sequence[float], targets: Sequence[float]) -> float:
    def rank(values: Sequence[float]) -> list[float]:
        return [sum(v < one for v in values) + sum(v == one for v in values) / 2 for one in values]

    return plain_pearson(rank(predictions), rank(targets))


def plain_mse(predictions: Sequence[float], targets: Sequence[float]) -> float:
    return sum((p - t) ** 2 for p, t in zip(predictions, targets, strict=True)) / len(targets)


def plain_perplexity(likelihoods: Sequence[float], tokens: Sequence[float]) -> float:
    return math.exp(sum(likelihoods) / sum(tokens))


def pairs_of(predictions: Sequence[int], targets: Sequence[int]) -> st.SearchStrategy[Pairs]:
    return st.lists(
        st.tuples(st.sampled_from(predictions), st.sampled_from(targets)), min_size=1, max_size=20
    )


DEFINITIONS: list[tuple[str, Definition, st.SearchStrategy[Pairs]]] = [
    ("accuracy", plain_accuracy, pairs_of(range(3), range(3))),
    ("f1", lambda p, t: plain_f1_of(1, p, t), pairs_of(range(3), range(2))),
    ("matthews", plain_matthews, pairs_of(range(3), range(3))),
    ("pearson", plain_pearson, pairs_of(range(-4, 5), range(-4, 5))),
    ("spearman", plain_spearman, pairs_of(range(-4, 5), range(-4, 5))),
    ("mse", plain_mse, pairs_of(range(-4, 5), range(-4, 5))),
    ("perplexity", plain_perplexity, pairs_of(range(50), range(1, 9))),
]


@pytest.mark.parametrize(("name", "definition", "pairs"), DEFINITIONS)
@settings(deadline=None)
@given(st.data())
def test_a_metric_is_that_of_its_definition_on_any_resample(
    name: str, definition: Definition, pairs: st.SearchStrategy[Pairs], data: st.DataObject
) -> None:
    rows = data.draw(pairs)
    drawn = data.draw(
        st.lists(st.integers(0, len(rows) - 1), min_size=len(rows), max_size=len(rows))
    )
    sample = METRICS[name].sample(*np.array(rows).T)
    found = sample.at(np.bincount(drawn, minlength=len(rows)).astype(float))
    expected = definition(*zip(*(rows[row] for row in drawn), strict=True))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(pairs_of(range(4), range(4)))
def test_f1_of_more_than_two_classes_is_the_mean_over_those_that_occur(pairs: Pairs) -> None:
    predictions, targets = np.array([*pairs, (0, 3)]).T
    expected = plain_macro_f1(predictions.tolist(), targets.tolist())
    assert METRICS["f1"].sample(predictions, targets).value() == pytest.approx(expected)


def test_f1_of_macro_skips_a_class_that_a_resample_lacks() -> None:
    sample = METRICS["f1"].sample(np.array([0, 1, 2]), np.array([0, 1, 2]))
    assert sample.at(np.array([2.0, 1.0, 0.0])) == 1


@pytest.mark.parametrize("name", [*CLASS_METRICS, *VALUE_METRICS])
@pytest.mark.parametrize(
    ("predictions", "targets"),
    [
        ([0, 0, 0], [0, 1, 0]),
        ([0, 1, 0], [1, 1, 1]),
        ([0, 0], [0, 0]),
        ([1, 1], [0, 0]),
        ([1], [1]),
        ([0], [2]),
        ([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]),
    ],
)
def test_a_degenerate_sample_has_finite_scores(
    name: str, predictions: list[float], targets: list[float]
) -> None:
    found = scores((name,), np.array(predictions), np.array(targets))
    assert math.isfinite(found.value)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_constant_predictions_correlate_with_nothing(name: str) -> None:
    found = scores((name,), np.full(3, 0.1), np.array([0, 1, 1])).estimate
    assert found == Estimate(value=0, low=0, high=0)


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e150])
def test_a_correlation_does_not_mind_the_scale(scale: float) -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 50))
    found, expected = (scores(("pearson",), x * factor, y).value for factor in (scale, 1))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_perfect_correlation_is_1(name: str) -> None:
    x = np.random.default_rng(1).normal(size=50)
    assert scores((name,), 3 * x - 1, x).value == pytest.approx(1, abs=1e-12)


def test_an_endless_likelihood_gives_the_largest_perplexity_instead_of_infinity() -> None:
    found = perplexity_scores(np.array([1e6, 1e6]), np.array([1, 1]))
    assert found.value == pytest.approx(np.finfo(np.float64).max)


def test_a_block_without_predicted_tokens_has_the_perplexity_1() -> None:
    assert perplexity_scores(np.array([0.0]), np.array([0])).value == 1


def test_the_perplexity_weighs_blocks_by_their_tokens() -> None:
    found = perplexity_scores(np.array([10.0, 1.0]), np.array([9, 2]))
    assert (found.primary, found.rows, found.constant) == ("perplexity", 2, None)
    assert found.value == pytest.approx(math.e)


@settings(deadline=None, max_examples=10)
@given(st.data())
@pytest.mark.parametrize(("name", "pairs"), [(name, pairs) for name, _, pairs in DEFINITIONS])
def test_the_interval_holds_the_value(
    name: str, pairs: st.SearchStrategy[Pairs], data: st.DataObject
) -> None:
    found = scores((name,), *np.array(data.draw(pairs)).T).estimate
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


def test_the_first_metric_asked_for_is_the_primary() -> None:
    found = scores(("f1", "accuracy"), np.array([0, 1, 1]), np.array([0, 1, 0]))
    assert (found.primary, list(found.metrics), found.rows) == ("f1", ["f1", "accuracy"], 3)
    assert found.value == pytest.approx(2 / 3)


def test_the_same_predictions_give_the_same_scores_to_the_last_bit() -> None:
    predictions, targets = np.random.default_rng(1).normal(size=(2, 100))
    first, second = (scores(VALUE_METRICS, predictions, targets) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("name", "constant"),
    [("accuracy", 0.6), ("f1", 2 * 0.4 / 1.4), ("matthews", 0.0), ("pearson", 0.0), ("mse", 0.24)],
)
def test_the_constant_is_what_the_best_constant_answer_scores(name: str, constant: float) -> None:
    targets = np.array([0, 0, 0, 1, 1])
    assert scores((name,), targets, targets).constant == pytest.approx(constant)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_no_constant_answer_beats_the_one_called_best(targets: list[int]) -> None:
    truth = np.array(targets)
    for name, best in (("accuracy", majority), ("f1", positive_or_majority)):
        measured = [METRICS[name].sample(np.full(len(truth), k), truth).value() for k in range(4)]
        chosen = METRICS[name].sample(np.full(len(truth), best(truth)), truth).value()
        assert chosen == pytest.approx(max(measured))


@pytest.mark.parametrize(("name", "definition", "_pairs"), DEFINITIONS)
def test_a_difference_is_the_models_metric_minus_the_baselines(
    name: str, definition: Definition, _pairs: st.SearchStrategy[Pairs]
) -> None:
    model, baseline, targets = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 0, 1, 0]]) + 1
    if name != "perplexity":
        model, baseline, targets = model - 1, baseline - 1, targets - 1
    sample = METRICS[name].sample
    found = paired_difference(sample(model, targets), sample(baseline, targets))
    expected = definition(model.tolist(), targets.tolist()) - definition(
        baseline.tolist(), targets.tolist()
    )
    assert found.value == pytest.approx(expected)


def test_a_difference_of_answers_that_agree_is_zero_with_certainty() -> None:
    predictions, targets = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    sample = METRICS["matthews"].sample(predictions, targets)
    found = paired_difference(sample, sample)
    assert found == Estimate(value=0, low=0, high=0)


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        (np.array([1]), np.array([1, 0]), "one of each a row"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "one of each a row"),
        (np.array([], int), np.array([], int), "at least one"),
    ],
)
def test_what_is_not_one_prediction_a_row_is_refused(
    predictions: Numbers, targets: Numbers, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scores(("f1",), predictions, targets)
