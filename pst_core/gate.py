"""Whether a model is as good as its baseline but for the drop that was allowed. Free of torch."""

from pst_core.report import Gate
from pst_core.spec import IN_POINTS, LOWER_IS_BETTER, Metric

# Of a hundredth: 0.9 - 0.89 is a little more than 0.01.
_DIGITS = 9


def judge(metric: Metric, *, limit: float, value: float, baseline: float) -> Gate:
    """Compare two values of a metric.

    Args:
        metric: What both are of.
        limit: The most that may be lost, as the spec's `max_drop`.
        value: The model's.
        baseline: The yardstick's.
    """
    lost = value - baseline if metric in LOWER_IS_BETTER else baseline - value
    drop = round(100 * lost if metric in IN_POINTS else lost, _DIGITS)
    return Gate(limit=limit, drop=drop, passed=drop <= limit)
