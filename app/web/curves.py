"""The charts of one job: loss and sparsity by step, scores by validation, zeros by matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncSession

from app.charts import heat, lines
from app.charts.lines import Series
from app.jobs.tables import Job, JobEvent, JobMetric
from app.metrics import service as metrics
from app.web import queries
from pst_core.report import Report

POINTS = 400
TABLE_ROWS = 20
STAGES = ("main", "baseline")
NAMES = {"main": "this job", "baseline": "dense baseline"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, and the same as a table for who does not see it."""

    title: str
    picture: Markup
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    names: tuple[str, ...] = ()
    """Of its lines, where there are several."""


async def draw(session: AsyncSession, job: Job, report: Report | None) -> list[Chart]:
    """Those that there is something to show in."""
    steps = await metrics.outline(session, job.id, POINTS)
    charts = []
    if steps:
        charts += [_by_step("Loss", "loss", steps), _by_step("Sparsity", "sparsity", steps)]
    scores = list(await session.scalars(queries.validations(job.id)))
    if scores:
        charts.append(_scores(scores))
    if report is not None and report.outcome.matrices:
        charts.append(_zeros(report))
    return charts


def _by_step(title: str, name: str, steps: Sequence[JobMetric]) -> Chart:
    series = [
        Series(NAMES[stage], points)
        for stage in STAGES
        if (points := [(each.step, getattr(each, name)) for each in steps if each.stage == stage])
    ]
    every = max(1, len(steps) // TABLE_ROWS)
    shown = [*steps[:-1:every], steps[-1]]
    return Chart(
        title,
        # What is in it was escaped where it was drawn.
        Markup(lines.draw(f"{title} by step", series)),  # noqa: S704
        ("step", "stage", name),
        [(str(each.step), NAMES[each.stage], f"{getattr(each, name):.4g}") for each in shown],
        tuple(each.name for each in series) if len(series) > 1 else (),
    )


def _scores(events: Sequence[JobEvent]) -> Chart:
    values = [(number, float(event.data["value"])) for number, event in enumerate(events, 1)]
    metric = str(events[0].data["metric"])
    title = f"{metric.capitalize()} on the validation split"
    picture = lines.draw(title, [Series(metric, values)], across="validation")
    rows = [(str(number), f"{value:.4g}") for number, value in values]
    return Chart(title, Markup(picture), ("validation", metric), rows)  # noqa: S704


def _zeros(report: Report) -> Chart:
    shown = heat.arrange(report.outcome.matrices)
    cells = [cell for row in shown.rows.values() for cell in row.values()]
    rows = [(cell.name, f"{100 * cell.sparsity:.4g} %", f"{cell.entries:,}") for cell in cells]
    return Chart(
        "Sparsity by layer, % of zeros",
        Markup(heat.draw(shown)),  # noqa: S704
        ("matrix", "zeros", "entries"),
        rows,
    )
