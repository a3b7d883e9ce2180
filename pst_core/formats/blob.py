"""The packed form of one tensor: a header, then segment by segment its mask and kept values.

Arrays and bytes, with numpy alone. mask_coding.py and value_coding.py have the codes, packed.py
the files; docs/formats.md draws the layout.
"""

import math
import mmap
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from pst_core.errors import CheckpointCorruptError, CheckpointVersionError
from pst_core.formats.mask_coding import (
    Marks,
    Mask,
    MaskCoding,
    decode_mask,
    encode_mask,
    positions,
)
from pst_core.formats.placing import place
from pst_core.formats.streams import Bytes, Decode, MalformedError, decode_deflated, decode_frame
from pst_core.formats.value_coding import Sections, as_words, decode_columns, encode_words

MAGIC = b"PSTB"
VERSION = 2
# Bounds what decoding needs beside the tensor; smaller ones take longer.
SEGMENT = 1 << 20

# How each version that is read codes its streams; only the newest is written.
_DECODE: dict[int, Decode] = {1: decode_deflated, VERSION: decode_frame}

Blob: TypeAlias = bytes | Bytes
# numpy has no bfloat16: here such a tensor is the uint16 array of its bit patterns, in and out.
Values: TypeAlias = NDArray[Any]
_Record: TypeAlias = tuple[int, ...]

_PREFIX = struct.Struct("<4sII")  # magic, version, CRC-32 of every byte that follows
_CODES = struct.Struct("<BBBB")  # dtype, whether there is a mask, 0, number of dimensions
_START = _PREFIX.size + _CODES.size
_DTYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(name) for code, name in ((1, "<f4"), (2, "<f2"), (3, "<u2"), (4, "<f8"))
}
_DTYPE_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_MASK_CODINGS = frozenset(MaskCoding)
_MAX_DIMENSIONS = 8
_ALIGNMENT = 8
# Every section starts where this divides, as words are read fastest.
_WORD = 2
# A tensor with entries is bounded by its segments; this bounds (0, 2**63), which has none.
_MAX_EXTENT = 1 << 40
_HUGE = 1 << 22  # bytes, from which on NumPy asks for huge pages


@dataclass(frozen=True, slots=True)
class Header:
    """What a blob says of its tensor.

    Args:
        dtype: uint16 for bfloat16.
        shape: Of the tensor.
        is_masked: Whether it was pruned: its mask tells which entries are kept.
        kept: Entries kept.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_masked: bool
    kept: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Up to `SEGMENT` entries in row-major order, as views into the blob's bytes."""

    size: int
    kept: int
    mask_coding: int
    mask: Bytes
    turned: bool
    words: tuple[Sections, ...]
    decode: Decode


def pack(values: Values, mask: Mask | None = None) -> bytes:
    """Pack one tensor.

    Args:
        values: float32, float16, float64, or uint16 for the bit patterns of bfloat16; any shape
            of at most 8 dimensions. What it holds where the mask is False is dropped.
        mask: Which entries are kept, bool, in the shape of `values`; None: the tensor is not
            pruned, and kept whole.

    Returns:
        The blob. Kept entries keep their bits (-0.0 and NaN payloads too), and an entry is kept
        because the mask says so, whatever its value.

    Raises:
        ValueError: The arrays do not fit each other or the format.
    """
    dtype = values.dtype.newbyteorder("<")
    if dtype not in _DTYPE_CODES or (mask is not None and mask.dtype != np.bool_):
        raise ValueError(f"Cannot pack {values.dtype} values with a {_name(mask)} mask.")
    if values.ndim > _MAX_DIMENSIONS or (mask is not None and values.shape != mask.shape):
        raise ValueError(f"Cannot pack values of shape {values.shape} with a {_name(mask)} mask.")
    flat = values.ravel().astype(dtype, copy=False)
    keep = None if mask is None else mask.ravel()
    record = _record(dtype)
    table, sections = bytearray(), list[bytes]()
    for start in range(0, flat.size, SEGMENT):
        part = slice(start, start + SEGMENT)
        fields = _pack_segment(flat[part], keep if keep is None else keep[part], sections)
        table += record.pack(*fields)
    parts: list[bytes | bytearray] = [
        _CODES.pack(_DTYPE_CODES[dtype], mask is not None, 0, values.ndim),
        struct.pack(f"<{values.ndim}Q", *values.shape),
        table,
    ]
    for section in sections:
        parts += section, bytes(_padded(len(section)) - len(section))
    # What follows in a file stands where its width divides, as torch asks for.
    parts.append(bytes(-(_PREFIX.size + sum(map(len, parts))) % _ALIGNMENT))
    checksum = 0
    for piece in parts:
        checksum = isal_zlib.crc32(piece, checksum)
    return b"".join((_PREFIX.pack(MAGIC, VERSION, checksum), *parts))


def read_header(blob: Blob, name: str) -> Header:
    """What a blob holds, once its checksum and all lengths in it are found right.

    Args:
        blob: What `pack` returned.
        name: The tensor's name, for the message of an error.

    Raises:
        CheckpointCorruptError: The bytes are truncated, altered or malformed.
        CheckpointVersionError: A newer release wrote them.
    """
    return _parse(blob, name)[0]


def unpack(blob: Blob, name: str) -> Values:
    """Unpack one tensor: kept entries bit for bit, pruned ones +0.0.

    Args and errors as `read_header`.

    Returns:
        A new, writable array of the packed shape and dtype (uint16 for bfloat16's bit patterns).
        Beside it at most 20 MB are taken, however large the tensor is.
    """
    header, segments = _parse(blob, name)
    flat = _zeros(header, header.dtype, name)
    for start, segment in segments:
        _fill(flat[start : start + segment.size], segment, name)
    return flat.reshape(header.shape)


def unpack_mask(blob: Blob, name: str) -> Mask:
    """Unpack which entries of one tensor were kept; arguments and errors as `unpack`."""
    header, segments = _parse(blob, name)
    flat = _zeros(header, np.dtype(np.bool_), name)
    for start, segment in segments:
        out = flat[start : start + segment.size]
        try:
            marks = _marks(segment, name)
            for kept in positions(marks) if marks is not None else ():
                out[kept] = True
        except MalformedError as error:
            raise _corrupt_mask(name, error) from None
    return flat.reshape(header.shape)


def _pack_segment(values: Values, keep: Mask | None, sections: list[bytes]) -> tuple[int, ...]:
    """Append a segment's sections; its record."""
    coding, coded = MaskCoding.UNIFORM, b""
    if keep is not None:
        where = np.flatnonzero(keep)
        coding, coded = encode_mask(keep, where)
        values = values[where]
    turned, words = encode_words(as_words(values))
    planes = [section for pair in words for section in pair]
    sections += [coded, *planes]
    return values.size, coding, len(coded), turned, *map(len, planes)


@cache
def _record(dtype: np.dtype[Any]) -> struct.Struct:
    """What the table says of a segment: entries kept, mask coding and bytes, turned, lengths."""
    return struct.Struct(f"<IBIB{2 * dtype.itemsize // _WORD}I")


def _fill(out: Values, segment: _Segment, name: str) -> None:
    """Give the kept entries of a segment their values."""
    try:
        values = decode_columns(
            segment.words, segment.kept, turned=segment.turned, decode=segment.decode
        )
    except MalformedError as error:
        raise _corrupt(name, f"its values are malformed: {error}") from None
    try:
        marks = _marks(segment, name)
        if marks is not None:
            place(out, marks, values)
    except MalformedError as error:
        raise _corrupt_mask(name, error) from None


def _marks(segment: _Segment, name: str) -> Marks | None:
    coding = segment.mask_coding
    _require(coding in _MASK_CODINGS, name, f"there is no mask coding {coding}")
    return decode_mask(MaskCoding(coding), segment.mask, segment.size, segment.kept, segment.decode)


def _parse(blob: Blob, name: str) -> tuple[Header, Iterator[tuple[int, _Segment]]]:
    """The header, and each segment with its place; nothing is allocated before all is checked."""
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
    _require(version in _DECODE, name, f"there is no version {version}")
    found = isal_zlib.crc32(raw[_PREFIX.size :])
    _require(found == checksum, name, "its checksum does not match")
    code, masked, reserved, ndim = _CODES.unpack_from(raw, _PREFIX.size)
    _require(code in _DTYPES, name, f"there is no dtype code {code}")
    _require(masked <= 1 and reserved == 0, name, "its header has bits without a meaning")
    _require(ndim <= _MAX_DIMENSIONS, name, f"it has {ndim} dimensions")
    table_start = _START + 8 * ndim
    _require(data.size >= table_start, name, f"{data.size} bytes are too few for its header")
    shape = struct.unpack_from(f"<{ndim}Q", raw, _START)
    extent = math.prod(max(length, 1) for length in shape)
    _require(extent <= _MAX_EXTENT, name, f"its shape {shape} is too large")
    size = math.prod(shape)
    record = _record(_DTYPES[code])
    count = -(-size // SEGMENT)
    end = table_start + count * record.size
    _require(data.size >= end, name, f"{data.size} bytes are too few for {count} segments")
    table, sections = raw[table_start:end], data[end:]
    kept = _check_table(record.iter_unpack(table), sections, size, name)
    _require(masked or kept == size, name, "it has no mask, and does not keep every entry")
    header = Header(_DTYPES[code], shape, bool(masked), kept)
    return header, _segments(record.iter_unpack(table), sections, size, _DECODE[version], name)


def _check_table(records: Iterable[_Record], sections: Bytes, size: int, name: str) -> int:
    """How many entries are kept, once the table fits the tensor and its sections."""
    left, total, expected = size, 0, 0
    for kept, _, mask_length, turned, *lengths in records:
        _require(kept <= min(left, SEGMENT), name, "a segment keeps more than it has")
        _require(turned <= 1, name, "a segment has bits without a meaning")
        expected += sum(map(_padded, (mask_length, *lengths)))
        total += kept
        left -= SEGMENT
    spare = sections.size - expected
    problem = f"its segments take {expected} bytes, and there are {sections.size}"
    _require(0 <= spare < _ALIGNMENT and not sections[expected:].any(), name, problem)
    return total


def _segments(
    records: Iterable[_Record], data: Bytes, size: int, decode: Decode, name: str
) -> Iterator[tuple[int, _Segment]]:
    end = 0

    def take(length: int) -> Bytes:
        nonlocal end
        start, end = end, end + _padded(length)
        is_filled_up = end == start + length or data[end - 1] == 0
        _require(is_filled_up, name, "a section is not filled up by a zero")
        return data[start : start + length]

    for index, (kept, coding, mask_length, turned, *lengths) in enumerate(records):
        start = index * SEGMENT
        mask = take(mask_length)
        planes = [take(length) for length in lengths]
        words = tuple(zip(planes[::2], planes[1::2], strict=True))
        segment_size = min(SEGMENT, size - start)
        yield start, _Segment(segment_size, kept, coding, mask, bool(turned), words, decode)


def _padded(length: int) -> int:
    return length + length % _WORD


def _zeros(header: Header, dtype: np.dtype[Any], name: str) -> Values:
    try:
        return _fresh(header.size, dtype)
    except (MemoryError, OSError):
        raise _corrupt(name, f"a shape of {header.shape} does not fit into memory") from None


def _fresh(size: int, dtype: np.dtype[Any]) -> Values:
    if sys.platform == "win32" or size * dtype.itemsize < _HUGE:
        return np.zeros(size, dtype)
    # Not in huge pages, which dense weights do not get either: on a virtual machine they were
    # measured to cost several times what the small ones do (docs/benchmarks.md).
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, size * dtype.itemsize, private), dtype)


def _name(mask: Mask | None) -> str:
    return "missing" if mask is None else f"{mask.dtype} {mask.shape}"


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise _corrupt(name, problem)


def _corrupt_mask(name: str, error: MalformedError) -> CheckpointCorruptError:
    return _corrupt(name, f"its mask is malformed: {error}")


def _corrupt(name: str, problem: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"The packed bytes of tensor {name} are corrupt: {problem}.")
