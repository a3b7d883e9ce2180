"""A sweep's front as a terminal shows it: quality upwards, bytes to the right."""

import typer

from app.commands.output import percent, size, table
from app.sweeps.schemas import Front, FrontPoint

WIDTH, HEIGHT = 60, 14
ON, OFF = "●", "·"


def show_front(front: Front) -> None:
    """The points in a picture, and in a table below."""
    if not front.points:
        typer.echo("no job has succeeded yet: there is no front")
        return
    for line in picture(front):
        typer.echo(line)
    rows = [_row(point) for point in front.points]
    table(("", "METHOD", "SPARSITY", "BYTES", front.metric.upper(), "JOBS"), rows)
    if not front.complete:
        typer.echo("jobs are still to come: the front may change")


def picture(front: Front) -> list[str]:
    """Lines of text; the better a point, the higher."""
    sign = 1 if front.higher_is_better else -1
    ups = [sign * point.metric.value for point in front.points]
    rights = [point.bytes for point in front.points]
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    # Those on the front last: they are never hidden.
    for point in sorted(front.points, key=lambda each: each.on_front):
        row = _place(sign * point.metric.value, ups, HEIGHT)
        column = _place(point.bytes, rights, WIDTH)
        grid[HEIGHT - 1 - row][column] = ON if point.on_front else OFF
    best, worst = (f"{sign * value:.4g}" for value in (max(ups), min(ups)))
    width = max(len(best), len(worst))
    labels = [best, *[""] * (HEIGHT - 2), worst]
    lines = [
        f"{label:>{width}} │{''.join(row)}".rstrip()
        for label, row in zip(labels, grid, strict=True)
    ]
    least, most = size(min(rights)), size(max(rights))
    lines.append(f"{'':>{width}} └{'─' * WIDTH}")
    lines.append(f"{'':>{width}}  {least}{most:>{WIDTH - len(least)}}")
    return lines


def _place(value: float, values: list[float], cells: int) -> int:
    least, greatest = min(values), max(values)
    return round((value - least) / (greatest - least) * (cells - 1)) if greatest > least else 0


def _row(point: FrontPoint) -> tuple[str, ...]:
    metric = f"{point.metric.value:.4g}"
    if point.metric.low is not None and point.metric.high is not None:
        metric += f" ({point.metric.low:.4g} to {point.metric.high:.4g})"
    mark = ON if point.on_front else OFF
    jobs = " ".join(point.jobs)
    return mark, point.method, percent(point.sparsity), size(point.bytes), metric, jobs
