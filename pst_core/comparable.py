"""What a dense job must share with those that it is the yardstick of. Free of torch.

What it scores is measured in baseline.py.
"""

from collections.abc import Iterator

from pst_core.spec import CompressionSpec

# Of the hyperparameters, those that decide what is scored; how each was trained is its own affair.
_SCORED = ("max_length", "beams", "max_new_tokens")


def disagreements(spec: CompressionSpec, dense: CompressionSpec) -> Iterator[str]:
    """The fields in which a job's spec is not that of its yardstick.

    The seed is one: it draws the splits, and the head that both start from.
    """
    if dense.method != "dense":
        yield "method"
    for name in ("model", "dataset", "task", "metric", "seed"):
        if getattr(spec, name) != getattr(dense, name):
            yield name
    mine, theirs = spec.resolved_hyperparameters(), dense.resolved_hyperparameters()
    for name in _SCORED:
        if getattr(mine, name) != getattr(theirs, name):
            yield f"hyperparameters.{name}"
