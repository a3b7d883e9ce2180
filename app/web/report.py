"""A finished job's report, as a page shows it: tiles first, then tables."""

from dataclasses import dataclass

from app.charts.scales import size
from app.web.rendering import duration, number, percent
from pst_core.report import Estimate, Evaluation, Report
from pst_core.spec import IN_POINTS


@dataclass(frozen=True, slots=True)
class Tile:
    name: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    tiles: list[Tile]
    scores: list[tuple[str, str, str, str]]
    """Split, metric, this job, baseline."""
    facts: list[tuple[str, str]]
    skipped: dict[str, str]
    refused: dict[str, str]
    versions: dict[str, str]


def summarise(report: Report) -> Summary:
    outcome = report.outcome
    return Summary(
        tiles=_tiles(report),
        scores=[*_scores(outcome.evaluation, outcome.baseline)],
        facts=_facts(report),
        skipped=outcome.skipped,
        refused=outcome.refused,
        versions=outcome.versions,
    )


def _tiles(report: Report) -> list[Tile]:
    outcome = report.outcome
    test = outcome.evaluation.test
    tiles = [Tile(f"{test.primary}, test split", number(test.value), _interval(test.estimate))]
    if outcome.difference is not None:
        value = _difference(outcome.difference.value, test.primary)
        tiles.append(Tile("against the dense baseline", value, _gate(report)))
    else:
        tiles.append(Tile("against the dense baseline", "not measured"))
    tiles.append(
        Tile(
            "zeros in pruned matrices",
            percent(outcome.sparsity),
            f"{percent(round(outcome.sparsity_overall, 4))} of all parameters",
        )
    )
    dense = outcome.bytes.get("dense")
    if (packed := outcome.bytes.get("packed")) is not None:
        more = f"{dense / packed:.1f} × smaller than dense" if dense and packed else ""
        tiles.append(Tile("packed", size(packed), more))
    elif dense is not None:
        tiles.append(Tile("dense", size(dense)))
    return tiles


def _scores(own: Evaluation, baseline: Evaluation | None) -> list[tuple[str, str, str, str]]:
    rows = []
    for split in ("validation", "test"):
        scores = getattr(own, split)
        yardstick = getattr(baseline, split) if baseline else None
        # The one that decides first; the database keeps no order of names.
        metrics = scores.metrics.items() if scores else ()
        for metric, estimate in sorted(metrics, key=lambda pair: pair[0] != scores.primary):
            other = yardstick.metrics.get(metric) if yardstick else None
            rows.append((split, metric, _estimate(estimate), _estimate(other)))
    return rows


def _facts(report: Report) -> list[tuple[str, str]]:
    outcome, cost = report.outcome, report.cost
    share = outcome.trainable_parameters / max(outcome.parameters, 1)
    facts = [
        ("Parameters", number(outcome.parameters)),
        ("Trained", f"{number(outcome.trainable_parameters)} ({100 * share:.3g} %)"),
        ("Steps", number(cost.steps)),
        ("Training", duration(cost.seconds)),
        ("A step", f"{1000 * cost.step_seconds:.3g} ms, median"),
        ("Peak memory", size(cost.peak_memory_bytes)),
    ]
    if report.device is not None:
        facts.append(("Device", report.device.name))
    facts += [(f"Weights, {name}", size(bytes_)) for name, bytes_ in outcome.bytes.items()]
    facts += [(f"Rows, {split}", number(rows)) for split, rows in outcome.data.rows.items()]
    return facts


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"95 % interval {estimate.low:.4g} to {estimate.high:.4g}"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    return f"{estimate.value:.4g}  [{estimate.low:.4g}, {estimate.high:.4g}]"


def _difference(value: float, metric: str) -> str:
    return f"{100 * value:+.3g} points" if metric in IN_POINTS else f"{value:+.4g}"


def _gate(report: Report) -> str:
    gate = report.outcome.gate
    if gate is None:
        return ""
    return f"{'within' if gate.passed else 'more than'} the drop of {gate.limit:g} that was allowed"
