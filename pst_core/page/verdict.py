"""The first sentences of a report: how good the model is, against the baseline and against luck."""

from pst_core.page.markdown import code, number, percent, signed
from pst_core.report import Estimate, Outcome, Scores
from pst_core.spec import IN_POINTS, LOWER_IS_BETTER

_ONE_SEED = (
    "This is one run with one seed: how much the scores vary from seed to seed was not measured."
)


def verdict(outcome: Outcome) -> str:
    """Paragraphs of plain words; what was not measured is said to be so."""
    paragraphs = (
        _headline(outcome),
        _comparison(outcome),
        gate(outcome),
        _luck(outcome.evaluation.test),
        _ONE_SEED,
    )
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "not known"
    return f"{number(estimate.low)} to {number(estimate.high)}"


def gate(outcome: Outcome) -> str:
    """Whether the drop that was allowed was kept to; empty where none was given."""
    found, metric = outcome.gate, outcome.spec.metric
    if found is None:
        return ""
    unit = " points" if metric in IN_POINTS or metric == "bleu" else ""
    kept = "passed" if found.passed else "missed"
    return (
        f"Gate **{kept}**: the drop of {code(metric)} against the baseline is "
        f"{number(found.drop)}{unit}, and at most {number(found.limit)} was allowed."
    )


def _headline(outcome: Outcome) -> str:
    test = outcome.evaluation.test
    sparsity = f"at {percent(outcome.sparsity)} sparsity" if outcome.matrices else "without pruning"
    against = ""
    if outcome.baseline is not None:
        against = f", the dense baseline **{number(outcome.baseline.test.value)}**"
    lower = " (lower is better)" if _lower_is_better(test) else ""
    return (
        f"On the test split this model has {code(test.primary)} **{number(test.value)}** "
        f"{sparsity}{against}{lower}. Its 95 % interval: {interval(test.estimate)}, "
        f"n = {test.rows:,}."
    )


def _comparison(outcome: Outcome) -> str:
    if outcome.baseline is None or outcome.difference is None:
        dense = outcome.spec.method == "dense"
        return "Dense baseline: not measured. " + (
            "This model is dense itself." if dense else "What the method costs is not known."
        )
    difference, test = outcome.difference, outcome.evaluation.test
    return (
        f"Paired difference, this model minus the baseline: **{signed(difference.value)}**, "
        f"{_signed_interval(difference)}, n = {test.rows:,}. {_judge(difference, test)}"
    )


def _signed_interval(difference: Estimate) -> str:
    if difference.low is None or difference.high is None:
        return "95 % interval not known"
    return f"95 % interval {signed(difference.low)} to {signed(difference.high)}"


def _judge(difference: Estimate, test: Scores) -> str:
    gain = -difference.value if _lower_is_better(test) else difference.value
    direction = "better than" if gain > 0 else "worse than" if gain < 0 else "as good as"
    found = f"this model is **{direction}** the baseline"
    if difference.low is None or difference.high is None:
        return f"Measured on these rows, {found}; how sure that is, is not known."
    if difference.low <= 0 <= difference.high:
        return (
            f"The interval contains 0: on these rows {found}, but a difference of this size "
            "can be chance."
        )
    return f"The interval does not contain 0: {found}, by more than the choice of rows explains."


def _luck(test: Scores) -> str:
    """Against the best constant answer."""
    if test.constant is None:
        return ""
    constant = f"The best constant answer has {code(test.primary)} {number(test.constant)}"
    gain = test.value - test.constant
    if (-gain if _lower_is_better(test) else gain) > 0:
        return f"{constant}."
    return f"{constant}: this model is **no better** than that."


def _lower_is_better(test: Scores) -> bool:
    return test.primary in LOWER_IS_BETTER
