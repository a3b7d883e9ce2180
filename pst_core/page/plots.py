"""The plots of a report, each as SVG and PNG; the same report gives the same bytes.

What they stand beside is the page's.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pst_core.page.matrix_grid import Grid, arrange, total
from pst_core.report import Report

# Of the palette of Okabe and Ito, which all kinds of colour vision tell apart.
_BLUE, _VERMILION = "#0072B2", "#D55E00"
# Dark to light at an even pace, told apart by all kinds of colour vision, and free of grey.
_COLOURS = "viridis"
_NOT_PRUNED = "#D9D9D9"
_MOST_NUMBERED_CELLS = 16
_MOST_LAYER_TICKS = 24
_DARK_BELOW = 0.5


def write_plots(report: Report, folder: Path) -> tuple[str, ...]:
    """Draw what there is to draw.

    Returns:
        The names of the plots made: each is NAME.svg and NAME.png in the folder.
    """
    made = []
    # One's own matplotlibrc must not change a report.
    with mpl.rc_context():
        _set_style()
        for name, draw in _DRAWINGS.items():
            figure = draw(report)
            if figure is not None:
                _save(figure, folder / name)
                made.append(name)
    return tuple(made)


def _set_style() -> None:
    mpl.rcdefaults()
    mpl.rc("font", family=["DejaVu Sans"])
    mpl.rc("axes", axisbelow=True)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#E0E0E0")
    # Text stays text, which can be searched, copied and read aloud; without a salt, the names of
    # elements are random.
    mpl.rc("svg", fonttype="none", hashsalt="pst")


def draw_training(report: Report) -> Figure | None:
    """Loss and, where anything is pruned, sparsity by step; None where nothing was trained."""
    curve = report.curve
    if not curve:
        return None
    steps = [point.step for point in curve]
    sparse = any(point.sparsity for point in curve)
    figure = Figure(figsize=(8, 5.5 if sparse else 3.5), layout="constrained")
    panels = figure.subplots(2 if sparse else 1, 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle("Training loss and sparsity by step" if sparse else "Training loss by step")
    _line(panels[0], steps, [point.loss for point in curve], _BLUE)
    panels[0].set_ylabel("training loss")
    if sparse:
        _line(panels[1], steps, [100 * point.sparsity for point in curve], _VERMILION)
        panels[1].set(ylabel="sparsity (% of entries)", ylim=(0, 100))
        _mark_target(panels[1], report.outcome.spec.sparsity)
    _label_steps(panels[-1])
    return figure


def draw_mask_churn(report: Report) -> Figure | None:
    """How much of the masks changed between looks; None where nobody looked."""
    looks = {
        point.step: 100 * point.mask_churn for point in report.curve if point.mask_churn is not None
    }
    if not looks:
        return None
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    _line(axes, [*looks], [*looks.values()], _BLUE)
    axes.set(title="Mask entries changed since the look before, by step", ylabel="mask churn (%)")
    axes.set_ylim(bottom=0)
    _label_steps(axes)
    return figure


def draw_sparsity(report: Report) -> Figure | None:
    """Sparsity as counted, types by layers; None where nothing was pruned."""
    if not report.outcome.matrices:
        return None
    grid = arrange(report.outcome.matrices)
    rows, columns = len(grid.kinds), len(grid.layers)
    shape = (min(24, 4.5 + 0.5 * columns), min(40, 1.8 + 0.4 * rows))
    figure = Figure(figsize=shape, layout="constrained")
    axes = figure.subplots()
    values = _values(grid)
    colours = mpl.colormaps[_COLOURS].with_extremes(bad=_NOT_PRUNED)
    image = axes.imshow(values, cmap=colours, vmin=0, vmax=100, aspect="auto")
    if columns <= _MOST_NUMBERED_CELLS:
        _write_values(axes, values)
    _label_grid(axes, grid)
    figure.suptitle("Sparsity by layer and type")
    figure.colorbar(image, ax=axes, label="sparsity (% of entries)")
    return figure


def _line(axes: Axes, steps: list[int], values: list[float], colour: str) -> None:
    # A line through one point cannot be seen.
    marker = "o" if len(steps) == 1 else ""
    axes.plot(steps, values, color=colour, linewidth=1.5, marker=marker)
    axes.grid(visible=True)


def _mark_target(axes: Axes, asked: float | None) -> None:
    if asked is not None:
        label = f"asked: {100 * asked:.4g} %"
        axes.axhline(100 * asked, color="black", linestyle="--", linewidth=1, label=label)
        axes.legend(loc="lower right")


def _label_steps(axes: Axes) -> None:
    axes.set_xlabel("step (optimizer steps)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _values(grid: Grid) -> "np.ma.MaskedArray[tuple[int, int], np.dtype[np.float64]]":
    """Per cent of zeros, types by layers; masked where nothing is pruned."""
    values = [
        [
            100 * grid.cells[kind, layer].sparsity if (kind, layer) in grid.cells else np.nan
            for layer in grid.layers
        ]
        for kind in grid.kinds
    ]
    return np.ma.masked_invalid(np.array(values))


def _write_values(
    axes: Axes, values: "np.ma.MaskedArray[tuple[int, int], np.dtype[np.float64]]"
) -> None:
    for (row, column), value in np.ndenumerate(values.filled(np.nan)):
        if not np.isnan(value):
            colour = "white" if value < 100 * _DARK_BELOW else "black"
            text = f"{value:.1f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _label_grid(axes: Axes, grid: Grid) -> None:
    # With signs beyond ASCII, a name could have some that the font lacks.
    kinds = [ascii(kind)[1:-1] + _fused(grid, kind) for kind in grid.kinds]
    axes.set_yticks(range(len(kinds)), kinds, parse_math=False)
    every = -(-len(grid.layers) // _MOST_LAYER_TICKS)
    numbers = ["none" if layer is None else str(layer) for layer in grid.layers]
    axes.set_xticks(range(0, len(numbers), every), numbers[::every])
    missing = len(grid.cells) < len(grid.kinds) * len(grid.layers)
    axes.set(xlabel="layer (number)" + (", grey: not pruned" if missing else ""))
    axes.set_ylabel("matrix type")
    axes.spines[:].set_visible(False)


def _fused(grid: Grid, kind: str) -> str:
    parts = total(grid.of_kind(kind)).parts
    return f" ({parts} fused)" if parts > 1 else ""


def _save(figure: Figure, stem: Path) -> None:
    """Write both files, with neither dates nor versions in them."""
    nothing = {"Date": None, "Creator": None}
    figure.savefig(stem.with_suffix(".svg"), format="svg", metadata=nothing)
    figure.savefig(stem.with_suffix(".png"), format="png", dpi=150, metadata={"Software": None})


_DRAWINGS: dict[str, Callable[[Report], Figure | None]] = {
    "training": draw_training,
    "sparsity": draw_sparsity,
    "mask-churn": draw_mask_churn,
}
