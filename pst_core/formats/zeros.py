"""Counts the zeros of each tensor in a safetensors file, in pieces, with numpy alone.

Which files make a model, and what the counts say of it, is not known here.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from pst_core.errors import CheckpointCorruptError
from pst_core.fields import Strict
from pst_core.formats import blob, packed
from pst_core.formats.weights import read_entries

# Of each dtype the unsigned integer of its width, and the bits that are all 0 in a zero: all but
# the sign's. What is not here, as the types of four and six bits, is not counted.
_ZERO_BITS: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FFF_FFFF_FFFF_FFFF),
    "F32": ("<u4", 0x7FFF_FFFF),
    "F16": ("<u2", 0x7FFF),
    "BF16": ("<u2", 0x7FFF),
    "F8_E4M3": ("u1", 0x7F),
    "F8_E5M2": ("u1", 0x7F),
    "C64": ("<u8", 0x7FFF_FFFF_7FFF_FFFF),
    "BOOL": ("u1", 0xFF),
} | {
    f"{sign}{8 * width}": (f"<u{width}", (1 << 8 * width) - 1)
    for width in (1, 2, 4, 8)
    for sign in "IU"
}
_BLOB_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "uint16": "BF16"}
_CHUNK = 1 << 22  # entries read at once


class TensorCount(Strict):
    """One tensor; of a packed one shape, dtype and entries are those of the dense tensor."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    entries: int
    zeros: int | None
    """By value: 0.0 and -0.0; null: not counted in this dtype."""
    pruned: int | None
    """Zeros by the mask of a packed tensor; null: it has none."""
    sparsity: float | None
    """Zeros by value, of its entries."""
    bytes: int
    """As stored."""


def count_file(path: Path, *, may_be_packed: bool) -> Iterator[TensorCount]:
    """Count tensor after tensor, in the order of their bytes.

    Args:
        path: A safetensors file.
        may_be_packed: Whether bytes in one dimension are packed tensors.

    Raises:
        CheckpointCorruptError: The file or a packed tensor in it is malformed; names it.
        CheckpointVersionError: A newer release packed a tensor.
    """
    try:
        entries = read_entries(path)
        with path.open("rb") as file:
            for entry in entries:
                file.seek(entry.begin)
                size = entry.end - entry.begin
                found = {"name": entry.name, "file": path.name, "bytes": size}
                if may_be_packed and packed.is_blob(entry.dtype, entry.shape):
                    data = np.fromfile(file, np.uint8, size)
                    found |= _count_blob(data, f"{entry.name} in {path.name}")
                else:
                    found |= _count_dense(file, entry.dtype, entry.shape)
                yield TensorCount.model_validate(found)
    except (SafetensorError, OSError) as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error}.") from error


def _count_dense(file: BinaryIO, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    entries, zeros = math.prod(shape), None
    if dtype in _ZERO_BITS:
        width, _ = _ZERO_BITS[dtype]
        zeros = 0
        for begin in range(0, entries, _CHUNK):
            count = min(_CHUNK, entries - begin)
            zeros += _count_zeros(np.fromfile(file, width, count), dtype)
    return _describe(dtype, shape, zeros, None)


def _count_blob(data: NDArray[np.uint8], label: str) -> dict[str, Any]:
    values = blob.unpack(data, label)
    dtype = _BLOB_DTYPES[values.dtype.name]
    width, _ = _ZERO_BITS[dtype]
    zeros = _count_zeros(values.reshape(-1).view(width), dtype)
    return _describe(dtype, values.shape, zeros, blob.count_pruned(data, label))


def _count_zeros(bits: NDArray[Any], dtype: str) -> int:
    zero_bits = bits.dtype.type(_ZERO_BITS[dtype][1])
    return bits.size - int(np.count_nonzero(bits & zero_bits))


def _describe(
    dtype: str, shape: Sequence[int], zeros: int | None, pruned: int | None
) -> dict[str, Any]:
    entries = math.prod(shape)
    sparsity = None if zeros is None else share(zeros, entries)
    counts = {"entries": entries, "zeros": zeros, "pruned": pruned, "sparsity": sparsity}
    return {"dtype": dtype, "shape": tuple(shape), **counts}


def share(zeros: int, entries: int) -> float:
    return zeros / entries if entries else 0.0
