"""An inspection as a terminal shows it: a table of tensors, totals, and what pst.json says."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pst_core.formats.zeros import TensorCount
from pst_core.inspection import Claim, Inspection

_COLUMNS = ("dtype", "shape", "entries", "zeros", "sparsity", "bytes stored")
_WIDTH = 200


def show(found: Inspection) -> None:
    """Print it; names are shown as they are, with nothing in them that moves a terminal."""
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nobody needs lines to be folded at 80 columns.
        console = Console(width=_WIDTH)
    table = Table(title="packed" if found.packed else "dense", show_footer=True)
    footers = _totals(found)
    table.add_column("tensor", footers[0], overflow="fold")
    headings = (*_COLUMNS, "pruned by mask") if found.packed else _COLUMNS
    for heading, footer in zip(headings, footers[1:], strict=True):
        table.add_column(heading, footer, justify="right", overflow="fold")
    for tensor in found.tensors:
        table.add_row(Text(_printable(tensor.name)), *_cells(tensor, packed=found.packed))
    console.print(table)
    for line in _notes(found):
        console.print(Text(line))


def _cells(tensor: TensorCount, *, packed: bool) -> tuple[str, ...]:
    counts = "not counted" if tensor.zeros is None else f"{tensor.zeros:,}"
    sparsity = "" if tensor.sparsity is None else f"{tensor.sparsity:.4%}"
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    cells = (tensor.dtype, shape, f"{tensor.entries:,}", counts, sparsity, f"{tensor.bytes:,}")
    if not packed:
        return cells
    return (*cells, "" if tensor.pruned is None else f"{tensor.pruned:,}")


def _totals(found: Inspection) -> tuple[str, ...]:
    totals = found.totals
    cells = (f"{totals.entries:,}", f"{totals.zeros:,}", f"{totals.sparsity:.4%}")
    footers = (f"{totals.tensors:,} tensors", "", "", *cells, f"{totals.bytes:,}")
    return (*footers, f"{totals.pruned:,}") if found.packed else footers


def _notes(found: Inspection) -> Iterator[str]:
    uncounted = sum(tensor.zeros is None for tensor in found.tensors)
    if uncounted:
        yield f"{uncounted} tensors are of dtypes that are not counted, nor are they in the totals."
    if found.left_out:
        yield f"not part of the model: {', '.join(map(_printable, found.left_out))}"
    yield from _claim(found.claim)


def _claim(claim: Claim | None) -> Iterator[str]:
    if claim is None:
        yield "no pst.json to compare with"
        return
    asked = "none" if claim.asked is None else f"{claim.asked:.4%}"
    claimed, counted = f"{claim.claimed:.4%}", f"{claim.counted:.4%}"
    yield f"pruned matrices: asked {asked}, pst.json says {claimed}, counted {counted}"


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)
