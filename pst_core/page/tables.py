"""The tables of a report on sparsity, sizes, cost and recipe. Files and plots are the page's."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pst_core.page.markdown import code, codes, folded, number, percent, plain, size, table
from pst_core.page.matrix_grid import Grid, Tally, arrange, generalized, place, tally, total
from pst_core.page.verdict import interval
from pst_core.recipes import PRESETS, Hyperparameters
from pst_core.report import Cost, Evaluation, Outcome, PrunedMatrix, Report

_EXAMPLES = 3


def metrics(outcome: Outcome) -> str:
    """Every metric of every split, for model and baseline."""
    head = ("split", "metric", "this model", "95 % interval", "baseline", "95 % interval", "n")
    return table(head, "llrrrrr", [*_metric_rows(outcome)])


def _metric_rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for split in ("validation", "test"):
        scores = getattr(outcome.evaluation, split)
        if scores is None:
            yield (split, "all", "not measured", "", "not measured", "", "0")
            continue
        for name, found in scores.metrics.items():
            cells = (number(found.value), interval(found), *_of_baseline(outcome, split, name))
            yield (split, code(name), *cells, f"{scores.rows:,}")


def _of_baseline(outcome: Outcome, split: str, name: str) -> tuple[str, str]:
    baseline: Evaluation | None = outcome.baseline
    scores = getattr(baseline, split, None)
    if scores is None or name not in scores.metrics:
        return "not measured", ""
    return number(scores.metrics[name].value), interval(scores.metrics[name])


def sparsity(outcome: Outcome) -> str:
    """Asked against counted, over all matrices and over all parameters."""
    spec, counted = outcome.spec, total(tally(matrix) for matrix in outcome.matrices)
    if not outcome.matrices:
        return f"Nothing was pruned: the method `{spec.method}` leaves every matrix dense."
    scope = "each matrix" if spec.scope == "matrix" else "all matrices together"
    rows = (
        ("asked", f"of {scope}", "", "", percent(spec.sparsity or 0.0)),
        (
            "counted",
            "all pruned matrices",
            f"{counted.entries:,}",
            f"{counted.zeros:,}",
            percent(outcome.sparsity),
        ),
        (
            "counted",
            "all parameters of the model",
            f"{outcome.parameters:,}",
            f"{counted.zeros:,}",
            percent(outcome.sparsity_overall),
        ),
    )
    return table(("", "of", "entries", "zeros", "sparsity"), "llrrr", rows)


def matrices(pruned: Sequence[PrunedMatrix]) -> str:
    """Sparsity by type, by layer, and of each matrix."""
    if not pruned:
        return ""
    grid = arrange(pruned)
    return "\n\n".join((_by_kind(grid), _by_layer(grid), _each(pruned)))


def _by_kind(grid: Grid) -> str:
    head = ("type", "matrices", "entries", "zeros", "sparsity", "lowest layer", "highest layer")
    rows = []
    for kind in grid.kinds:
        cells = grid.of_kind(kind)
        shares = [cell.sparsity for cell in cells]
        counted = total(cells)
        fused = f" ({counted.parts} fused)" if counted.parts > 1 else ""
        extremes = (percent(min(shares)), percent(max(shares)))
        rows.append((code(kind) + fused, f"{counted.matrices:,}", *_counts(counted), *extremes))
    return table(head, "lrrrrrr", rows)


def _by_layer(grid: Grid) -> str:
    rows = []
    for layer in grid.layers:
        counted = total(grid.of_layer(layer))
        rows.append((_layer(layer), f"{counted.matrices:,}", *_counts(counted)))
    return table(("layer", "matrices", "entries", "zeros", "sparsity"), "rrrrr", rows)


def _each(pruned: Sequence[PrunedMatrix]) -> str:
    rows = []
    for matrix in pruned:
        where = _layer(place(matrix.name).layer)
        shape = " × ".join(map(str, matrix.shape))
        rows.append((where, code(matrix.name), shape, *_counts(tally(matrix))))
    head = ("layer", "matrix", "shape as stored", "entries", "zeros", "sparsity")
    return folded(f"Each of the {len(rows):,} matrices", table(head, "rlrrrr", rows))


def _layer(number: int | None) -> str:
    return "none" if number is None else str(number)


def _counts(counted: Tally) -> tuple[str, str, str]:
    return f"{counted.entries:,}", f"{counted.zeros:,}", percent(counted.sparsity)


def skipped(reasons: dict[str, str]) -> str:
    """Layers with matrices that stayed dense, like ones together under their reason."""
    if not reasons:
        return "No layer with matrices was skipped."
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, reason in reasons.items():
        groups[reason][generalized(name)].append(name)
    rows = [
        (plain(reason), f"{sum(map(len, alike.values())):,}", _alike(alike))
        for reason, alike in groups.items()
    ]
    return table(("why", "layers", "which"), "lrl", rows)


def _alike(groups: dict[str, list[str]]) -> str:
    """Up to three names as they are, more as their pattern and how many it stands for."""
    return ", ".join(
        codes(names) if len(names) <= _EXAMPLES else f"{code(pattern)} ({len(names):,})"
        for pattern, names in groups.items()
    )


def sizes(outcome: Outcome) -> str:
    """Bytes of the weights by format, against the dense ones."""
    dense = outcome.bytes.get("dense")
    rows = [
        (code(name), size(count), f"{dense / count:.2f} ×" if dense and count else "not known")
        for name, count in outcome.bytes.items()
    ]
    rows += [(code(name), "not made", plain(why)) for name, why in outcome.refused.items()]
    return table(("format", "weights", "smaller than dense by"), "lrr", rows)


def benefit(report: Report) -> str:
    """Latency by runtime, with the verdict on each."""
    if report.benefit is None:
        return "Speed: not measured. Zeros alone do not make runtimes for dense matrices faster."
    found = report.benefit
    rows = [
        (
            each.runtime,
            each.variant,
            str(each.batch_size),
            f"{1000 * each.seconds:.1f} ms",
            f"{each.speedup:.2f} ×",
        )
        for each in found.latencies
    ]
    head = ("runtime", "model", "batch", "latency", "PyTorch dense / this")
    verdicts = "\n".join(f"- **{each.runtime}**: {plain(each.text)}" for each in found.verdicts)
    threads = "thread" if found.threads == 1 else "threads"
    where = f"On {found.device}, {found.threads} {threads}:"
    least = (
        f"By the entropy of masks and values, no code for single symbols takes less than "
        f"{size(found.sizes.limit.total)} for the weights."
    )
    return "\n\n".join((where, table(head, "llrrr", rows), verdicts, least))


def parameters(outcome: Outcome) -> str:
    share = outcome.trainable_parameters / outcome.parameters if outcome.parameters else 0.0
    return table(
        ("parameters", "number", "share"),
        "lrr",
        (
            ("all", f"{outcome.parameters:,}", percent(1.0)),
            ("trained", f"{outcome.trainable_parameters:,}", percent(share)),
        ),
    )


def score_variance(outcome: Outcome) -> str:
    shares = outcome.score_variance
    if shares is None:
        return "Share of each term in the variance of the importance score: not measured."
    rows = (
        ("|W′|, the updated weight".replace("|", "&#124;"), percent(shares.weight)),
        ("α1·A B, low rank", percent(shares.low_rank)),
        ("α2·(R + C), rows and columns", percent(shares.row_column)),
    )
    return table(("term of the importance score", "share of the variance"), "lr", rows)


def mask_churn(report: Report) -> str:
    looks = [
        (point.mask_churn, point.step) for point in report.curve if point.mask_churn is not None
    ]
    if not looks:
        return "Mask churn: not measured."
    (highest, at), (last, step) = max(looks), looks[-1]
    return (
        f"Mask churn, the share of mask entries that changed since the look before: at most "
        f"{percent(highest)} (step {at:,}), at the last of {len(looks):,} looks {percent(last)} "
        f"(step {step:,})."
    )


def cost(report: Report) -> str:
    """Steps, time and memory of model and baseline."""
    ours, theirs = _costs(report.cost), ("not measured",) * 4
    if report.baseline_cost is not None:
        theirs = _costs(report.baseline_cost)
    names = ("optimizer steps", "seconds", "median seconds a step", "peak memory")
    rows = zip(names, ours, theirs, strict=True)
    return table(("", "this model", "dense baseline"), "lrr", rows)


def _costs(cost: Cost) -> tuple[str, str, str, str]:
    median = number(cost.step_seconds) if cost.steps else "no steps"
    return f"{cost.steps:,}", number(cost.seconds), median, size(cost.peak_memory_bytes)


def hyperparameters(outcome: Outcome) -> str:
    """Every value, marked where it is not that of the preset `paper`."""
    values, paper = outcome.hyperparameters.model_dump(), Hyperparameters().model_dump()
    rows = [
        (f"`{name}`", _value(value), *_departure(outcome, name, value, paper[name]))
        for name, value in values.items()
    ]
    head = ("hyperparameter", "this run", "`paper`", "", "changed by")
    return table(head, "lrrll", rows)


def _departure(outcome: Outcome, name: str, value: object, usual: object) -> tuple[str, str, str]:
    if value == usual:
        return _value(usual), "", ""
    spec = outcome.spec
    if name in spec.hyperparameters.model_fields_set:
        return _value(usual), "**≠**", "spec"
    changed_by = f"preset `{spec.preset}`" if name in PRESETS[spec.preset] else "run"
    return _value(usual), "**≠**", changed_by


def _value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.12g}" if isinstance(value, float) else f"{value}"
