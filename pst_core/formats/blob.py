"""The packed form of one tensor: a header, a bit for each entry, and the values the mask keeps.

Arrays and bytes, with numpy alone; packed.py has the files, docs/formats.md draws the layout.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pst_core.errors import CheckpointCorruptError, CheckpointVersionError

MAGIC = b"PSTB"
VERSION = 1

Blob: TypeAlias = bytes | NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
# numpy has no bfloat16: here such a tensor is the uint16 array of its bit patterns, in and out.
Values: TypeAlias = NDArray[Any]

_PREFIX = struct.Struct("<4sII")  # magic, version, CRC-32 of every byte that follows
_CODES = struct.Struct("<BBBB")  # dtype, mask coding, value coding, number of dimensions
_START = _PREFIX.size + _CODES.size
_DTYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(name) for code, name in ((1, "<f4"), (2, "<f2"), (3, "<u2"), (4, "<f8"))
}
_DTYPE_CODES = {dtype: code for code, dtype in _DTYPES.items()}
# Both codes have a single meaning so far; they leave room for entropy-coded masks and values.
_MASK_AS_BITS, _VALUES_AS_BYTES = 0, 0
_MAX_DIMENSIONS = 8
# A tensor with entries is bounded by its own mask; this bounds (0, 2**63), which has none.
_MAX_EXTENT = 1 << 40
# Decoding goes in blocks of so many entries, since each position of a kept one takes 8 bytes.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class _Layout:
    """A blob's parts, as views into its bytes, every one of them already checked."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    mask_bits: NDArray[np.uint8]
    kept: NDArray[Any]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def pack(values: Values, mask: Mask) -> bytes:
    """Pack one tensor.

    Args:
        values: float32, float16, float64, or uint16 for the bit patterns of bfloat16; any shape
            of at most 8 dimensions. What it holds where the mask is False is dropped.
        mask: Which entries are kept, bool, in the shape of `values`.

    Returns:
        The blob. Kept entries keep their bits (-0.0 and NaN payloads too), and an entry is kept
        because the mask says so, whatever its value.

    Raises:
        ValueError: The arrays do not fit each other or the format.
    """
    dtype = values.dtype.newbyteorder("<")
    if dtype not in _DTYPE_CODES or mask.dtype != np.bool_:
        raise ValueError(f"Cannot pack {values.dtype} values with a {mask.dtype} mask.")
    if values.shape != mask.shape or values.ndim > _MAX_DIMENSIONS:
        raise ValueError(f"Cannot pack values of shape {values.shape} with a mask {mask.shape}.")
    kept = values[mask].astype(dtype, copy=False)
    body = b"".join(
        (
            _CODES.pack(_DTYPE_CODES[dtype], _MASK_AS_BITS, _VALUES_AS_BYTES, values.ndim),
            struct.pack(f"<{values.ndim}QQ", *values.shape, kept.size),
            np.packbits(mask.ravel(), bitorder="little").tobytes(),
            kept.tobytes(),
        )
    )
    return _PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body


def unpack(blob: Blob, name: str) -> Values:
    """Unpack one tensor: kept entries bit for bit, pruned ones +0.0.

    Args:
        blob: What `pack` returned.
        name: The tensor's name, for the message of an error.

    Returns:
        A new, writable array of the packed shape and dtype (uint16 for bfloat16's bit patterns).
        Beside it at most 5 MB are taken, however large the tensor is.

    Raises:
        CheckpointCorruptError: The bytes are truncated, altered or malformed.
        CheckpointVersionError: A newer release wrote them.
    """
    layout = _parse(blob, name)
    flat = np.zeros(layout.size, layout.dtype)
    taken = 0
    for start in range(0, layout.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        bits = layout.mask_bits[start // 8 : (start + _BLOCK) // 8]
        keep = np.unpackbits(bits, count=block.size, bitorder="little").view(np.bool_)
        positions = np.flatnonzero(keep)  # five times as fast on booleans as on bytes
        block[positions] = layout.kept[taken : taken + positions.size]
        taken += positions.size
    return flat.reshape(layout.shape)


def unpack_mask(blob: Blob, name: str) -> Mask:
    """Unpack which entries of one tensor were kept; arguments and errors as `unpack`."""
    layout = _parse(blob, name)
    bits = np.unpackbits(layout.mask_bits, count=layout.size, bitorder="little")
    return bits.view(np.bool_).reshape(layout.shape)


def count_pruned(blob: Blob, name: str) -> int:
    """Count the entries of one tensor that the mask prunes; arguments and errors as `unpack`."""
    layout = _parse(blob, name)
    return layout.size - layout.kept.size


def _parse(blob: Blob, name: str) -> _Layout:
    data = np.frombuffer(blob, np.uint8)
    raw = data.data
    _require(data.size >= _START, name, f"{data.size} bytes are too few for a header")
    magic, version, checksum = _PREFIX.unpack_from(raw)
    _require(magic == MAGIC, name, "it does not start with the magic bytes")
    if version > VERSION:
        raise CheckpointVersionError(
            f"Tensor {name} is packed in version {version}, this release reads up to {VERSION}.",
            remedy="Upgrade pst-service.",
        )
    _require(version == VERSION, name, f"there is no version {version}")
    _require(zlib.crc32(raw[_PREFIX.size :]) == checksum, name, "its checksum does not match")
    code, mask_coding, value_coding, ndim = _CODES.unpack_from(raw, _PREFIX.size)
    _require(code in _DTYPES, name, f"there is no dtype code {code}")
    _require(mask_coding == _MASK_AS_BITS, name, f"there is no mask coding {mask_coding}")
    _require(value_coding == _VALUES_AS_BYTES, name, f"there is no value coding {value_coding}")
    _require(ndim <= _MAX_DIMENSIONS, name, f"it has {ndim} dimensions")
    mask_start = _START + 8 * ndim + 8
    _require(data.size >= mask_start, name, f"{data.size} bytes are too few for its header")
    *shape, kept = struct.unpack_from(f"<{ndim}QQ", raw, _START)
    return _split(data[mask_start:], _DTYPES[code], tuple(shape), kept, name)


def _split(
    data: NDArray[np.uint8], dtype: np.dtype[Any], shape: tuple[int, ...], kept: int, name: str
) -> _Layout:
    """Part what follows the header into mask and values, checked before anything is allocated."""
    extent = math.prod(max(length, 1) for length in shape)
    _require(extent <= _MAX_EXTENT, name, f"its shape {shape} is too large")
    size = math.prod(shape)
    mask_length = -(-size // 8)
    expected = mask_length + kept * dtype.itemsize
    _require(data.size == expected, name, f"mask and values take {data.size} bytes, not {expected}")
    mask_bits, values = data[:mask_length], data[mask_length:]
    padding = int(mask_bits[-1]) >> (size % 8) if size % 8 else 0
    _require(padding == 0, name, "the bits after the mask's end are not zero")
    ones = int(np.bitwise_count(mask_bits).sum())
    _require(ones == kept, name, f"its mask keeps {ones} entries, its header says {kept}")
    return _Layout(dtype, shape, mask_bits, values.view(dtype))


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise CheckpointCorruptError(f"The packed bytes of tensor {name} are corrupt: {problem}.")
