"""Kept values put where a mask says: in C where that could be built, else with NumPy.

Both come decoded: mask_coding.py and value_coding.py have the codes, blob.py the layout.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pst_core.formats.mask_coding import Marks, positions
from pst_core.formats.plane_coding import Plane
from pst_core.formats.streams import MalformedError
from pst_core.formats.value_coding import Columns, Joiner, Words, as_words

try:
    from pst_core.formats import _place
except ImportError:  # there was no C compiler where it was installed
    HAS_C = False
else:
    HAS_C = True


def place(out: NDArray[Any], marks: Marks, values: Columns) -> None:
    """Give the entries that a mask keeps their values.

    Args:
        out: All entries, zeros, contiguous; written to.
        marks: Which are kept.
        values: Theirs, in order.

    Raises:
        MalformedError: The mask keeps another number; some entries may have values then.
    """
    if not HAS_C:
        _place_with_numpy(out, marks, values)
        return
    sections = tuple(section for column in values.columns for section in sections_of(column))
    if not _place.place_values(out, marks.kind, marks.data, sections, values.count, values.turned):
        raise MalformedError(f"it does not keep {marks.kept} entries")


def sections_of(column: Words | tuple[Plane, Plane]) -> tuple[NDArray[Any] | bytes, ...]:
    """A column as it is handed to C."""
    if isinstance(column, np.ndarray):
        return column, b"", b"", b""
    high, low = column
    return high.data, high.alphabet, low.data, low.alphabet


def _place_with_numpy(out: NDArray[Any], marks: Marks, values: Columns) -> None:
    joiner = Joiner(values)
    done = 0
    for kept in positions(marks):
        if isinstance(kept, slice):
            joiner.write(0, as_words(out[kept]))
        else:
            part = np.empty(kept.size, out.dtype)
            joiner.write(done, as_words(part))
            out[kept] = part
            done += kept.size
