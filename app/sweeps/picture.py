"""The front of a sweep as an SVG.

Readable on light and dark, in black and white, and by who cannot see it.
"""

from collections.abc import Iterator, Sequence
from html import escape

from app.charts.scales import COLOURS, Axis, size, ticks
from app.sweeps.schemas import Front, FrontPoint

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 48, 56
SIZE = 5.0  # of a mark, from its middle
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.grid { stroke: #8c959f; stroke-opacity: .3; }
.front { fill: none; stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 5 3; }
.off { fill-opacity: .15; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .front { stroke: #adbac7; } }
"""


def draw(front: Front, title: str, *, style: str = STYLE) -> str:
    """The picture; of a sweep without points yet, one that says so.

    Args:
        front: What is drawn.
        title: Above it.
        style: How; a page that has a style sheet gives none.
    """
    told = _described(front)
    body = "\n".join(_plot(front) if front.points else _nothing())
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" \
width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title desc">
<title id="title">{escape(title)}</title>
<desc id="desc">{escape(told)}</desc>
{style and f"<style>{style}</style>"}
<text class="title" x="{LEFT}" y="26">{escape(title)}</text>
{body}
</svg>
"""


def _described(front: Front) -> str:
    kept = [point for point in front.points if point.on_front]
    points = "; ".join(
        f"{_name(point)}: {front.metric} {point.metric.value:.4g} in {size(point.bytes)}"
        for point in kept
    )
    return f"{front.metric} against bytes ({front.size_of}). On the front: {points or 'none yet'}."


def _nothing() -> Iterator[str]:
    yield f'<text x="{LEFT}" y="{HEIGHT / 2}">No job of the sweep has succeeded yet.</text>'


def _plot(front: Front) -> Iterator[str]:
    points = front.points
    # Sizes from zero: how much smaller is what is asked.
    across = Axis(ticks(0.0, max(point.bytes for point in points)), LEFT, WIDTH - RIGHT)
    low = min(_bounds(point)[0] for point in points)
    up = Axis(ticks(low, max(_bounds(point)[1] for point in points)), HEIGHT - BOTTOM, TOP)
    methods = sorted({point.method for point in points})
    yield from _axes(front, across, up)
    line = " ".join(
        f"{across.at(point.bytes)},{up.at(point.metric.value)}"
        for point in points
        if point.on_front
    )
    yield f'<polyline class="front" points="{line}"/>'
    for point in points:
        yield _point(point, (across, up), methods.index(point.method), front)
    yield from _legend(methods)


def _axes(front: Front, across: Axis, up: Axis) -> Iterator[str]:
    base, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    for value in across.ticks:
        x = across.at(value)
        yield f'<path class="grid" d="M{x} {TOP}V{base}"/>'
        yield f'<text x="{x}" y="{base + 18}" text-anchor="middle">{size(value)}</text>'
    for value in up.ticks:
        y = up.at(value)
        yield f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.4g}</text>'
    better = "higher" if front.higher_is_better else "lower"
    yield (
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">bytes of weights, '
        f"{front.size_of}</text>"
    )
    # Upright, above its axis: nobody has to turn their head.
    yield f'<text x="{LEFT}" y="{TOP - 4}">{front.metric} ({better} is better)</text>'


def _point(point: FrontPoint, axes: tuple[Axis, Axis], number: int, front: Front) -> str:
    x, y = axes[0].at(point.bytes), axes[1].at(point.metric.value)
    low, high = (axes[1].at(bound) for bound in _bounds(point))
    colour, css = COLOURS[number % len(COLOURS)], "on" if point.on_front else "off"
    over = "the rows of its test split" if point.interval == "rows" else f"{len(point.jobs)} seeds"
    told = (
        f"{_name(point)}: {front.metric} {point.metric.value:.4g} ({_bounds(point)[0]:.4g} to "
        f"{_bounds(point)[1]:.4g} over {over}), {size(point.bytes)}"
        f"{', on the front' if point.on_front else ''}"
    )
    return (
        f'<g class="{css}" fill="{colour}" stroke="{colour}" stroke-width="1.5">'
        f'<title>{escape(told)}</title><path d="M{x} {low}V{high}"/>{_mark(number, x, y)}</g>'
    )


def _mark(number: int, x: float, y: float) -> str:
    """A shape of its own for each method: colours alone are not seen by all."""
    match number % 4:
        case 0:
            return f'<circle cx="{x}" cy="{y}" r="{SIZE}"/>'
        case 1:
            side = 2 * SIZE
            return f'<rect x="{x - SIZE:.2f}" y="{y - SIZE:.2f}" width="{side}" height="{side}"/>'
        case 2:
            return f'<path d="M{x} {y - 6:.2f}l6 11h-12z"/>'
    return f'<path d="M{x} {y - 7:.2f}l6 7l-6 7l-6 -7z"/>'


def _legend(methods: Sequence[str]) -> Iterator[str]:
    x = WIDTH - RIGHT + 24
    for number, method in enumerate(methods):
        y, colour = TOP + 12 + 22 * number, COLOURS[number % len(COLOURS)]
        yield f'<g fill="{colour}" stroke="{colour}">{_mark(number, x, y)}</g>'
        yield f'<text x="{x + 14}" y="{y + 4}">{escape(method)}</text>'
    y = TOP + 12 + 22 * len(methods)
    yield f'<path class="front" d="M{x - 8} {y}h16"/>'
    yield f'<text x="{x + 14}" y="{y + 4}">front</text>'
    yield f'<text x="{x - 8}" y="{y + 28}">pale: not on it</text>'
    yield f'<text x="{x - 8}" y="{y + 46}">bars: 95 % intervals</text>'


def _bounds(point: FrontPoint) -> tuple[float, float]:
    value, low, high = point.metric.value, point.metric.low, point.metric.high
    return (value if low is None else low, value if high is None else high)


def _name(point: FrontPoint) -> str:
    return point.method if point.sparsity is None else f"{point.method} {point.sparsity:.4g}"
