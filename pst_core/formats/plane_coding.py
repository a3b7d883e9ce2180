"""Planes of bytes, raw or coded; few values are grouped first, several to a byte.

A Huffman code gives each byte a whole number of bits, which wastes most where few values share
most of the frequency, as the exponents of what a threshold keeps. A code for groups of them does
not, and has fewer bytes to decode.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pst_core.formats.streams import Bytes, Decode, MalformedError, encode

_MOST = 16  # values that fit two to a byte
_SAMPLE = 1 << 12  # bytes that mostly show whether there are more


@dataclass(frozen=True, slots=True)
class Plane:
    """A decoded plane.

    Args:
        data: Its bytes; with an alphabet, indices into it in groups; with one of a single value,
            nothing.
        alphabet: At most 16 values, or none.
    """

    data: Bytes
    alphabet: bytes = b""

    def spell_out(self, count: int) -> Bytes:
        """Its bytes, of which there are so many."""
        number = len(self.alphabet)
        if number == 0:
            return self.data
        if number == 1:
            return np.full(count, self.alphabet[0], np.uint8)
        indices = _indices(_bits(number))
        values = np.frombuffer(self.alphabet.ljust(_MOST, b"\0"), np.uint8)
        # All values of a byte at once, as one integer of as many bytes.
        table: NDArray[np.generic] = values[indices].view(f"<u{indices.shape[1]}").reshape(256)
        plane: Bytes = table.take(self.data).view(np.uint8)
        return plane[:count]


def encode_plane(plane: Bytes) -> bytes | None:
    """Code a plane; None where it is best left as it is.

    Returns:
        The number of values in the alphabet, 0 for all 256; the values; and the plane, or indices
        into the alphabet in groups, coded where that is shorter. Shorter than the plane.
    """
    alphabet = _alphabet(plane)
    if alphabet.size > _MOST:
        stream = encode(plane)
        return None if stream is None else _shorter(b"\0" + stream, plane)
    head = bytes([alphabet.size]) + alphabet.tobytes()
    if alphabet.size == 1:
        return _shorter(head, plane)
    index = np.zeros(256, np.uint8)
    index[alphabet] = np.arange(alphabet.size)
    indices = np.frombuffer(plane.tobytes().translate(index.tobytes()), np.uint8)
    groups = _group(indices, _bits(alphabet.size))
    return _shorter(head + (encode(groups) or groups.tobytes()), plane)


def decode_plane(coded: Bytes, count: int, decode: Decode) -> Plane:
    """Decode a plane of so many bytes, by the version that coded it; raises MalformedError."""
    if coded.size == 0 or coded[0] > _MOST or coded.size <= coded[0]:
        raise MalformedError("there is no such alphabet")
    number = int(coded[0])
    alphabet, stream = coded[1 : 1 + number], coded[1 + number :]
    length = -(-count * _bits(number) // 8)
    if number == 1 and stream.size:
        raise MalformedError("a plane of one value has indices")
    groups = stream if stream.size >= length else decode(stream, length)
    if groups.size != length:
        raise MalformedError("a plane has another length")
    if number > 1:
        _check_indices(groups, number, count)
    return Plane(groups, alphabet.tobytes())


def _alphabet(plane: Bytes) -> Bytes:
    """The values that occur, in order; where they are many, perhaps not all."""
    seen = np.unique(plane[:: max(plane.size // _SAMPLE, 1)])
    if seen.size > _MOST:
        return seen
    others = plane.tobytes().translate(None, seen.tobytes())
    return np.union1d(seen, np.frombuffer(others, np.uint8))


def _bits(number: int) -> int:
    """Of an index into so many values: 0, 1, 2 or 4; 8 for no alphabet."""
    if number == 0:
        return 8
    return 0 if number == 1 else 1 if number <= 2 else 2 if number <= 4 else 4  # noqa: PLR2004


def _group(indices: Bytes, bits: int) -> Bytes:
    """Indices into bytes, the first in the lowest bits; the last byte is filled up with zeros."""
    in_a_byte = 8 // bits
    padded = np.zeros(-(-indices.size // in_a_byte) * in_a_byte, np.uint8)
    padded[: indices.size] = indices
    groups = np.zeros(padded.size // in_a_byte, np.uint8)
    for place in range(in_a_byte):
        groups |= padded[place::in_a_byte] << (place * bits)
    return groups


def _check_indices(groups: Bytes, number: int, count: int) -> None:
    bits = _bits(number)
    highest = (1 << bits) - 1
    unused = groups.size * (8 // bits) - count
    if unused and _indices(bits)[groups[-1], -unused:].any():
        raise MalformedError("unused bits are not zero")
    # Arithmetic on bytes is several times as fast as a look into a table.
    if number <= highest and any(
        ((groups >> shift) & highest).max(initial=0) >= number for shift in range(0, 8, bits)
    ):
        raise MalformedError("an index is outside its alphabet")


@cache
def _indices(bits: int) -> Bytes:
    """The indices in each byte, 256 × indices in a byte."""
    numbers = np.arange(256, dtype=np.uint8)[:, None]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    indices: Bytes = (numbers >> shifts) & np.uint8((1 << bits) - 1)
    indices.flags.writeable = False
    return indices


def _shorter(coded: bytes, plane: Bytes) -> bytes | None:
    return coded if len(coded) < plane.size else None
