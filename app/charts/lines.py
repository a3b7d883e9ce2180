"""Values by step as lines. Colours and fonts are the style sheet's of the page that shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from app.charts.scales import Axis, ticks

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 34
FEW_TICKS = 4
APART = 110  # pixels that the name of the axis and its first number take
MARKED = 30  # points: with fewer each is shown, and one alone would else be no line

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: Sequence[Point]


def draw(title: str, series: Sequence[Series], *, across: str = "step") -> str:
    """The picture.

    Args:
        title: What is shown, for who does not see it; the page has its own heading.
        series: At least one point in all; each is drawn in a style of its own.
        across: What counts from left to right.
    """
    points = [point for each in series for point in each.points]
    xs, ys = ([point[axis] for point in points] for axis in (0, 1))
    # As long as the series, so that its end is the chart's.
    first, last = min(xs), max(*xs, min(xs) + 1)
    inner = [tick for tick in ticks(first, last, FEW_TICKS) if first < tick < last]
    x_axis = Axis((first, *inner, last), LEFT, WIDTH - RIGHT)
    y_axis = Axis(ticks(min(ys), max(ys), FEW_TICKS), HEIGHT - BOTTOM, TOP)
    body = [*_axes(x_axis, y_axis, across)]
    body += [_line(each, number, x_axis, y_axis) for number, each in enumerate(series)]
    told = escape(f"{title}. {'; '.join(map(_told, series))}")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">'
        f"{''.join(body)}</svg>"
    )


def _axes(across: Axis, up: Axis, name: str) -> Iterator[str]:
    base = HEIGHT - BOTTOM
    for value in up.ticks:
        y = up.at(value)
        yield f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.4g}</text>'
    start, *inner, end = across.ticks
    yield f'<text x="{LEFT}" y="{base + 20}">{escape(name)} {start:,.6g}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{base + 20}" text-anchor="end">{end:,.6g}</text>'
    for value in inner:
        # Where it would touch its neighbours at either end it is left out.
        if LEFT + APART < (x := across.at(value)) < WIDTH - RIGHT - APART / 2:
            yield f'<text x="{x}" y="{base + 20}" text-anchor="middle">{value:,.6g}</text>'


def _line(series: Series, number: int, across: Axis, up: Axis) -> str:
    places = [(across.at(x), up.at(y)) for x, y in series.points]
    line = " ".join(f"{x},{y}" for x, y in places)
    marks = ""
    if len(places) <= MARKED:
        marks = "".join(f'<circle cx="{x}" cy="{y}" r="2.5"/>' for x, y in places)
    return f'<g class="series-{number}"><polyline points="{line}"/>{marks}</g>'


def _told(series: Series) -> str:
    if not series.points:
        return f"{series.name}: nothing yet"
    values = [value for _, value in series.points]
    return (
        f"{series.name}: from {values[0]:.4g} to {values[-1]:.4g}, "
        f"between {min(values):.4g} and {max(values):.4g}"
    )
