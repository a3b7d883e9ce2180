"""Which entries of a segment are kept, coded by whatever takes the fewest bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pst_core.formats.streams import (
    WORTH,
    Bytes,
    Decode,
    MalformedError,
    encode,
    entropy_bytes,
)

Mask = NDArray[np.bool_]
Positions = NDArray[np.intp]


class MaskCoding(IntEnum):
    """How a segment's mask is written; docs/formats.md describes each."""

    UNIFORM = 0
    """All entries are kept or none, as their number says: no bytes. Such a mask is coded so."""
    BITS = 1
    """A bit for each entry."""
    CODED_BITS = 2
    CODED_GAPS = 3
    """The number of pruned entries before each kept one, in bytes of at most 254; a byte of 255
    stands for as many pruned entries, and no kept one."""


class MarkKind(IntEnum):
    """How the bytes of a mask mark what is kept, once they are decoded."""

    ALL = 0
    BITS = 1
    GAPS = 2


@dataclass(frozen=True, slots=True)
class Marks:
    """A decoded mask.

    Args:
        kind: What its bytes are.
        data: Of no length for ALL.
        size: Entries.
        kept: How many of them are to be marked, one at least; that they are is not yet known.
    """

    kind: MarkKind
    data: Bytes
    size: int
    kept: int


_SKIP = 255
# Gaps are decoded several times faster, and may take this much more.
_PREFERENCE = 1.01
# So many bits or gaps are decoded at a time: what is made of them stays in the cache, and is small
# enough to be made in the same memory again, which is not given back and asked for anew.
_BLOCK = 1 << 16


def encode_mask(mask: Mask, positions: Positions) -> tuple[MaskCoding, bytes]:
    """Code a mask in one dimension, whose kept entries are at these positions."""
    if positions.size in {0, mask.size}:
        return MaskCoding.UNIFORM, b""
    bits = np.packbits(mask, bitorder="little")
    entropy = entropy_bytes(bits)
    if entropy >= WORTH * bits.size:
        return MaskCoding.BITS, bits.tobytes()
    # Where most are kept most gaps are 0, on each of which a code spends a bit at least.
    gaps = None if 2 * positions.size > mask.size else _gaps(positions)
    if gaps is not None and entropy_bytes(gaps) <= _PREFERENCE * entropy:
        coding, coded = MaskCoding.CODED_GAPS, encode(gaps)
    else:
        coding, coded = MaskCoding.CODED_BITS, encode(bits)
    if coded is None or len(coded) >= bits.size:
        return MaskCoding.BITS, bits.tobytes()
    return coding, coded


def decode_mask(
    coding: MaskCoding, coded: Bytes, size: int, kept: int, decode: Decode
) -> Marks | None:
    """Decode a mask; None: it keeps nothing.

    Args:
        coding: How the bytes are to be read.
        coded: The bytes.
        size: Entries of the segment.
        kept: How many of them are kept.
        decode: Of the version that coded them.

    Raises:
        MalformedError: The bytes are.
    """
    if (coding is MaskCoding.UNIFORM) != (kept in {0, size}):
        raise MalformedError("only one that keeps all or none is coded as such")
    match coding:
        case MaskCoding.UNIFORM:
            if coded.size:
                raise MalformedError("it has bytes where none are due")
            return Marks(MarkKind.ALL, coded, size, kept) if kept else None
        case MaskCoding.BITS | MaskCoding.CODED_BITS:
            length = -(-size // 8)
            bits = coded if coding is MaskCoding.BITS else decode(coded, length)
            if bits.size != length:
                raise MalformedError("it has another length")
            if size % 8 and bits[-1] >> (size % 8):
                raise MalformedError("unused bits are not zero")
            return Marks(MarkKind.BITS, bits, size, kept)
        case MaskCoding.CODED_GAPS:
            gaps = decode(coded, kept + size // _SKIP)
            if gaps.size == 0 or gaps[-1] == _SKIP:
                raise MalformedError("it does not end with an entry that is kept")
            return Marks(MarkKind.GAPS, gaps, size, kept)


def positions(marks: Marks) -> Iterator[Positions | slice]:
    """Which entries are kept, part by part in order: their positions, or a slice of all entries.

    Raises:
        MalformedError: Another number is; some parts may have come then.
    """
    found = 0
    for part in _parts(marks):
        found += marks.size if isinstance(part, slice) else part.size
        if found > marks.kept:
            break
        yield part
    if found != marks.kept:
        raise MalformedError(f"it does not keep {marks.kept} entries")


def _parts(marks: Marks) -> Iterator[Positions | slice]:
    match marks.kind:
        case MarkKind.ALL:
            yield slice(marks.size)
        case MarkKind.BITS:
            yield from _positions_of_bits(marks.data, marks.size)
        case MarkKind.GAPS:
            yield from _positions_of_gaps(marks.data, marks.size)


def _gaps(positions: Positions) -> Bytes:
    gaps = np.diff(positions, prepend=-1) - 1
    skips, rests = np.divmod(gaps, _SKIP)
    if not skips.any():
        return rests.astype(np.uint8)
    coded = np.full(positions.size + int(skips.sum()), _SKIP, np.uint8)
    coded[np.cumsum(skips + 1) - 1] = rests
    return coded


def _positions_of_gaps(gaps: Bytes, size: int) -> Iterator[Positions]:
    before = 0
    for start in range(0, gaps.size, _BLOCK):
        part = gaps[start : start + _BLOCK]
        is_kept = part != _SKIP
        steps = part + is_kept.view(np.uint8)
        # Widened first: NumPy takes ten times as long to sum bytes into wider numbers.
        positions = steps.astype(np.intp)
        positions[0] += before - 1
        np.cumsum(positions, out=positions)
        before = int(positions[-1]) + 1
        if before > size:
            raise MalformedError("it keeps entries that are not there")
        yield positions[is_kept] if not is_kept.all() else positions


def _positions_of_bits(bits: Bytes, size: int) -> Iterator[Positions]:
    for start in range(0, size, _BLOCK):
        part = bits[start // 8 : (start + _BLOCK) // 8]
        keep = np.unpackbits(part, bitorder="little").view(np.bool_)
        positions = np.flatnonzero(keep)  # five times as fast on booleans as on bytes
        positions += start
        yield positions
