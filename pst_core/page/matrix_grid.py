"""Pruned matrices arranged by layer and by type, as their names tell. Nothing is drawn here."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from pst_core.report import PrunedMatrix

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a matrix is: the stack of layers, the number of its layer, and what it is in there."""

    stack: str
    layer: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over some matrices; `parts` is how many are fused in one, at most."""

    matrices: int = 0
    entries: int = 0
    zeros: int = 0
    parts: int = 1

    @property
    def sparsity(self) -> float:
        return self.zeros / self.entries if self.entries else 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.matrices + other.matrices,
            self.entries + other.entries,
            self.zeros + other.zeros,
            max(self.parts, other.parts),
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """Types by layers; a cell that is missing was not pruned."""

    kinds: tuple[str, ...]
    layers: tuple[int | None, ...]
    cells: dict[tuple[str, int | None], Tally]

    def of_kind(self, kind: str) -> list[Tally]:
        """Its cells, one a layer that has it."""
        return [tally for (name, _), tally in self.cells.items() if name == kind]

    def of_layer(self, layer: int | None) -> list[Tally]:
        return [tally for (_, number), tally in self.cells.items() if number == layer]


def place(name: str) -> Place:
    """Read `bert.encoder.layer.3.output.dense.weight` as layer 3's `output.dense`."""
    # So that a number at its beginning stands between two dots as well.
    path = f".{name.removesuffix('.weight')}"
    found = _NUMBER.search(path)
    if found is None:
        return Place("", None, path[1:])
    return Place(path[1 : found.start() - 1], int(found[0]), path[found.end() + 1 :])


def generalized(name: str) -> str:
    """A name with its numbers replaced by `*`: that of all its like."""
    return _NUMBER.sub("*", f".{name}.")[1:-1]


def total(tallies: Iterable[Tally]) -> Tally:
    return reduce(Tally.__add__, tallies, Tally())


def tally(matrix: PrunedMatrix) -> Tally:
    return Tally(1, math.prod(matrix.shape), matrix.pruned, len(matrix.parts))


def arrange(matrices: Sequence[PrunedMatrix]) -> Grid:
    """Sum the matrices up by type and layer; types in the order of the model, layers by number.

    Numbers inside a type, as of experts, are summed over. Where a model has several stacks of
    layers, as an encoder and a decoder, the types of each are apart.
    """
    stacks = {place(matrix.name).stack for matrix in matrices}
    cells: dict[tuple[str, int | None], Tally] = {}
    for matrix in matrices:
        where = place(matrix.name)
        kind = generalized(where.kind)
        if len(stacks) > 1 and where.stack:
            kind = f"{where.stack}.*.{kind}"
        cells[kind, where.layer] = cells.get((kind, where.layer), Tally()) + tally(matrix)
    layers = {layer for _, layer in cells}
    numbers = sorted(layer for layer in layers if layer is not None)
    unnumbered = (None,) if None in layers else ()
    return Grid(tuple(dict.fromkeys(kind for kind, _ in cells)), (*numbers, *unnumbered), cells)
