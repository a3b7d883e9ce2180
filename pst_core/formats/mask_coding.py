"""Which entries of a segment are kept, coded by whatever takes the fewest bytes."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pst_core.formats.deflate import WORTH, Bytes, deflate, entropy_bytes, inflate

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


class MaskCoding(IntEnum):
    """How a segment's mask is written; docs/formats.md describes each."""

    UNIFORM = 0
    """All entries are kept or none, as their number says: no bytes. Such a mask is coded so."""
    BITS = 1
    """A bit for each entry."""
    DEFLATED_BITS = 2
    DEFLATED_GAPS = 3
    """The number of pruned entries before each kept one, in bytes of at most 254; a byte of 255
    stands for as many pruned entries, and no kept one."""


_SKIP = 255
# Gaps are decoded several times faster, and may take this much more.
_PREFERENCE = 1.01


def encode_mask(mask: Mask, positions: Positions) -> tuple[MaskCoding, bytes]:
    """Code a mask in one dimension, whose kept entries are at these positions."""
    if positions.size in {0, mask.size}:
        return MaskCoding.UNIFORM, b""
    bits = np.packbits(mask, bitorder="little")
    entropy = entropy_bytes(bits)
    if entropy >= WORTH * bits.size:
        return MaskCoding.BITS, bits.tobytes()
    gaps = _gaps(positions)
    if entropy_bytes(gaps) <= _PREFERENCE * entropy:
        coding, coded = MaskCoding.DEFLATED_GAPS, deflate(gaps)
    else:
        coding, coded = MaskCoding.DEFLATED_BITS, deflate(bits)
    if coded is None or len(coded) >= bits.size:
        return MaskCoding.BITS, bits.tobytes()
    return coding, coded


def decode_mask(coding: MaskCoding, coded: Bytes, size: int, kept: int) -> Positions | slice | None:
    """Which entries are kept, as an index: their positions in order, or a slice of all or none.

    Args:
        coding: How the bytes are to be read.
        coded: The bytes.
        size: Entries of the segment.
        kept: How many of them are kept.

    Returns:
        None where the bytes are malformed, or mean another number than `kept`.
    """
    if coding is MaskCoding.UNIFORM or kept in {0, size}:
        fits = coding is MaskCoding.UNIFORM and coded.size == 0 and kept in {0, size}
        return slice(kept) if fits else None
    match coding:
        case MaskCoding.BITS:
            positions = _positions_of_bits(coded, size)
        case MaskCoding.DEFLATED_BITS:
            bits = inflate(coded, -(-size // 8))
            positions = None if bits is None else _positions_of_bits(bits, size)
        case MaskCoding.DEFLATED_GAPS:
            gaps = inflate(coded, kept + size // _SKIP)
            positions = None if gaps is None else _positions_of_gaps(gaps, size)
    return None if positions is None or positions.size != kept else positions


def _gaps(positions: Positions) -> Bytes:
    gaps = np.diff(positions, prepend=-1) - 1
    skips, rests = np.divmod(gaps, _SKIP)
    if not skips.any():
        return rests.astype(np.uint8)
    coded = np.full(positions.size + int(skips.sum()), _SKIP, np.uint8)
    coded[np.cumsum(skips + 1) - 1] = rests
    return coded


def _positions_of_gaps(gaps: Bytes, size: int) -> Positions | None:
    is_kept = gaps != _SKIP
    if gaps.size == 0 or not is_kept[-1]:
        return None
    # Each gap ends where as many pruned entries lie before it, and all the kept ones before it.
    positions = np.cumsum(gaps, dtype=np.int64)
    if is_kept.all():
        positions += np.arange(gaps.size)
    else:
        positions += np.cumsum(is_kept) - is_kept
        positions = positions[is_kept]
    return positions if positions[-1] < size else None


def _positions_of_bits(bits: Bytes, size: int) -> Positions | None:
    padding = int(bits[-1]) >> (size % 8) if bits.size and size % 8 else 0
    if bits.size != -(-size // 8) or padding:
        return None
    keep = np.unpackbits(bits, count=size, bitorder="little").view(np.bool_)
    return np.flatnonzero(keep)  # five times as fast on booleans as on bytes
