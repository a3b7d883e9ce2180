"""How small a pruned checkpoint could be: the entropy of its masks and of its values' bytes.

With numpy alone, in pieces. What a format really takes is the size of its files.
"""

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pst_core.benefit_report import Limit
from pst_core.formats.folder import weight_files
from pst_core.formats.tensor_file import Entry, TensorReader, opened

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
        with opened(path) as reader:
            for entry in reader.entries:
                is_pruned = entry.name in pruned
                planes = _count_planes(reader, entry, without_zeros=is_pruned)
                bits["values" if is_pruned else "others"] += sum(map(_bits, planes))
                if is_pruned:
                    kept = int(planes[0].sum())
                    bits["masks"] += _bits(np.array([kept, entry.size - kept]))
    # Sums of logarithms end a little off whole numbers.
    return Limit(**{part: math.ceil(round(each / 8, 6)) for part, each in bits.items()})


def _count_planes(reader: TensorReader, entry: Entry, *, without_zeros: bool) -> NDArray[np.int64]:
    """How often each byte occurs in each plane of a tensor: width × 256."""
    width = max((entry.end - entry.begin) // max(entry.size, 1), 1)
    counts = np.zeros((width, 256), np.int64)
    data = reader.read(entry)
    for start in range(0, data.size, width * _CHUNK):
        piece = data[start : start + width * _CHUNK]
        kept = _without_zeros(piece, width) if without_zeros else piece
        for plane in range(width):
            counts[plane] += np.bincount(kept[plane::width], minlength=256)
    return counts


def _without_zeros(data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    words = data.view(f"<u{width}")
    kept: NDArray[np.uint8] = words[words != 0].view(np.uint8)
    return kept


def _bits(counts: NDArray[np.int64]) -> float:
    """What symbols of these counts take together, by their entropy."""
    some = counts[counts > 0].astype(np.float64)
    return float((some * np.log2(some.sum() / some)).sum())
