"""How small a pruned checkpoint could be: the entropy of its masks and of its values' bytes.

With numpy alone, in pieces. What a format really takes is the size of its files.
"""

import math
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from pst_core.benefit_report import Limit
from pst_core.errors import CheckpointCorruptError
from pst_core.formats.packed import weight_files
from pst_core.formats.weights import Entry, read_entries

_CHUNK = 1 << 20  # entries read at once


def limit(folder: Path, pruned: Collection[str]) -> Limit:
    """The limit of a dense folder.

    Args:
        folder: With safetensors; pruned entries are +0.0, and every entry that is not, is kept.
        pruned: The names of the pruned tensors.

    Raises:
        CheckpointCorruptError: A file cannot be read; names it.
    """
    bits = dict.fromkeys(("masks", "values", "others"), 0.0)
    for path in weight_files(folder):
        try:
            for entry in read_entries(path):
                is_pruned = entry.name in pruned
                planes = _count_planes(path, entry, without_zeros=is_pruned)
                bits["values" if is_pruned else "others"] += sum(map(_bits, planes))
                if is_pruned:
                    kept = int(planes[0].sum())
                    bits["masks"] += _bits(np.array([kept, entry.entries - kept]))
        except (SafetensorError, OSError) as error:
            raise CheckpointCorruptError(f"{path} cannot be read: {error}") from error
    # Sums of logarithms end a little off whole numbers.
    return Limit(**{part: math.ceil(round(each / 8, 6)) for part, each in bits.items()})


def _count_planes(path: Path, entry: Entry, *, without_zeros: bool) -> NDArray[np.int64]:
    """How often each byte occurs in each plane of a tensor: width × 256."""
    width = max((entry.end - entry.begin) // max(entry.entries, 1), 1)
    counts = np.zeros((width, 256), np.int64)
    for piece in _pieces(path, entry, width):
        kept = _without_zeros(piece, width) if without_zeros else piece
        for plane in range(width):
            counts[plane] += np.bincount(kept[plane::width], minlength=256)
    return counts


def _without_zeros(data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    words = data.view(f"<u{width}")
    kept: NDArray[np.uint8] = words[words != 0].view(np.uint8)
    return kept


def _pieces(path: Path, entry: Entry, width: int) -> Iterator[NDArray[np.uint8]]:
    with path.open("rb") as file:
        file.seek(entry.begin)
        left = entry.end - entry.begin
        while left:
            data = np.fromfile(file, np.uint8, min(left, width * _CHUNK))
            left -= data.size
            yield data


def _bits(counts: NDArray[np.int64]) -> float:
    """What symbols of these counts take together, by their entropy."""
    some = counts[counts > 0].astype(np.float64)
    return float((some * np.log2(some.sum() / some)).sum())
