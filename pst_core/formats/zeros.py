"""Counts the zeros of each tensor in a safetensors file, in pieces, with numpy alone.

Which files make a model, and what the counts say of it, is not known here.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pst_core.fields import Strict
from pst_core.formats import blob, packed
from pst_core.formats.tensor_file import Bytes, Entry, TensorReader, opened

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

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
    sha256: str | None = None
    """Of its bytes in dense form; null: not asked for."""


def count_file(path: Path, *, may_be_packed: bool, hashed: bool = False) -> Iterator[TensorCount]:
    """Count tensor after tensor, in the order of their bytes.

    Args:
        path: A safetensors file.
        may_be_packed: Whether bytes in one dimension are packed tensors.
        hashed: Whether to give each tensor's SHA-256.

    Raises:
        CheckpointCorruptError: The file or a packed tensor in it is malformed; names it.
        CheckpointVersionError: A newer release packed a tensor.
    """
    with opened(path) as reader:
        for entry in reader.entries:
            found = {"name": entry.name, "file": path.name, "bytes": entry.end - entry.begin}
            digest = hashlib.sha256() if hashed else None
            if may_be_packed and packed.is_blob(entry):
                found |= _count_blob(reader.read(entry), f"{entry.name} in {path.name}", digest)
            else:
                found |= _count_dense(reader, entry, digest)
            found["sha256"] = digest and digest.hexdigest()
            yield TensorCount.model_validate(found)


def _count_dense(reader: TensorReader, entry: Entry, digest: "Digest | None") -> dict[str, Any]:
    zeros = None
    if entry.dtype in _ZERO_BITS:
        zeros = 0
        for piece in reader.read_pieces(entry, np.dtype(_ZERO_BITS[entry.dtype][0]), _CHUNK):
            zeros += _count_zeros(piece, entry.dtype)
            _update(digest, piece)
    else:
        _update(digest, reader.read(entry))
    return _describe(entry.dtype, entry.shape, zeros, None)


def _count_blob(data: Bytes, label: str, digest: "Digest | None") -> dict[str, Any]:
    values, header = blob.unpack(data, label), blob.read_header(data, label)
    _update(digest, values)
    dtype = packed.SAFETENSORS_DTYPES[values.dtype]
    width, _ = _ZERO_BITS[dtype]
    zeros = _count_zeros(values.reshape(-1).view(width), dtype)
    pruned = header.size - header.kept if header.is_masked else None
    return _describe(dtype, values.shape, zeros, pruned)


def _update(digest: "Digest | None", values: NDArray[Any]) -> None:
    if digest is not None:
        digest.update(values.reshape(-1).view(np.uint8).data)


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
