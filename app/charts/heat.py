"""Shares of a table of cells as shades, with each share written in its cell."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pst_core.report import PrunedMatrix

CELL, GAP = 30, 3
LABEL, HEAD, LINE = 34, 34, 12
MOST_SHADES = 9
WIDE = 64  # least width of a cell, in which a share is read
LAYER = re.compile(r"(?:^|\.)(?P<layer>[0-9]+)\.(?P<part>.+?)(?:\.weight)?$")
# What the names of parts have in common tells nothing.
COMMON = frozenset({"self", "self_attn", "attention", "attn", "mlp", "ffn", "dense", "layer"})


@dataclass(frozen=True, slots=True)
class Cell:
    name: str
    sparsity: float
    entries: int


@dataclass(frozen=True, slots=True)
class Map:
    """Rows are blocks of the model, columns the matrices of one."""

    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, Cell]]


def arrange(matrices: Sequence[PrunedMatrix]) -> Map:
    """By the number in each name, and what follows it; what has none is a row of its own."""
    rows: dict[str, dict[str, Cell]] = {}
    columns: dict[str, None] = {}
    for matrix in matrices:
        entries = matrix.shape[0] * matrix.shape[1]
        cell = Cell(matrix.name, matrix.pruned / max(entries, 1), entries)
        found = LAYER.search(matrix.name)
        row, part = (found["layer"], found["part"]) if found else (matrix.name, "")
        columns[part] = None
        rows.setdefault(row, {})[part] = cell
    return Map([*columns], rows)


def draw(shown: Map) -> str:
    """The picture; the darker, the more zeros."""
    width = max(WIDE, 560 // max(len(shown.columns), 1))
    total = LABEL + width * len(shown.columns)
    body: list[str] = []
    for at, column in enumerate(_names(shown.columns)):
        body += _heading(column, LABEL + width * at + (width - GAP) / 2)
    for index, (row, cells) in enumerate(shown.rows.items()):
        y = HEAD + (CELL + GAP) * index
        label = row if row.isdecimal() else ""
        body.append(f'<text x="{LABEL - 8}" y="{y + 20}" text-anchor="end">{escape(label)}</text>')
        for at, column in enumerate(shown.columns):
            if cell := cells.get(column):
                body.append(_cell(cell, LABEL + width * at, y, width - GAP))
    height = HEAD + (CELL + GAP) * len(shown.rows)
    return (
        f'<svg class="chart heat" viewBox="0 0 {total} {height}" role="img" '
        f'aria-label="Share of zeros of each pruned matrix; the table below has the numbers.">'
        f"{''.join(body)}</svg>"
    )


def _heading(name: str, x: float) -> Iterator[str]:
    """A word a line, the last one just above the cells."""
    for above, word in enumerate(reversed(name.split())):
        y = HEAD - 8 - LINE * above
        yield f'<text x="{x}" y="{y}" text-anchor="middle">{escape(word)}</text>'


def _cell(cell: Cell, x: float, y: float, width: float) -> str:
    shade = min(MOST_SHADES, round(cell.sparsity * MOST_SHADES))
    return (
        f'<g class="shade-{shade}"><title>{escape(cell.name)}: {cell.sparsity:.2%} zeros</title>'
        f'<rect x="{x}" y="{y}" width="{width}" height="{CELL}" rx="3"/>'
        f'<text x="{x + width / 2}" y="{y + 20}" text-anchor="middle">'
        f"{100 * cell.sparsity:.1f}</text></g>"
    )


def _names(parts: Sequence[str]) -> list[str]:
    """Short ones; of parts that are called alike, with what they belong to."""
    short = [_short(part) for part in parts]
    owners = [part.partition(".")[0] for part in parts]
    return [
        f"{owner} {name}" if short.count(name) > 1 and owner != name else name
        for name, owner in zip(short, owners, strict=True)
    ]


def _short(part: str) -> str:
    words = [word for word in part.split(".") if word not in COMMON] or part.split(".")[:1]
    return words[-1]
