"""Values as 16-bit words split into bytes of like meaning, each coded where that pays.

Turning the most significant word of a float by one bit puts the whole exponent into one byte and
the sign beside the mantissa: exponents are few and frequent, and all else is noise. Where a mask
keeps what is above a threshold, the word as it is can do better: it has the last bit of the
exponent beside the mantissa, and the two depend on each other there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pst_core.formats.plane_coding import Plane, decode_plane, encode_plane
from pst_core.formats.streams import Bytes, Decode, MalformedError, estimate_bits

Words: TypeAlias = NDArray[np.uint16]
Sections: TypeAlias = tuple[Bytes, Bytes]

_WORD = np.dtype("<u2")
_PAIR = np.dtype("<u4")
# So many values are joined at a time: what lies between two steps stays in the cache.
_BLOCK = 1 << 16
# Turning back takes a fifth of the time of joining: to save less than this share it does not pay.
_WORTH_TURNING = 0.005


def as_words(values: NDArray[np.generic]) -> Words:
    """The words of contiguous values, values × words, the least significant first; no copy."""
    in_a_value = values.itemsize // _WORD.itemsize
    words: Words = values.reshape(-1).view(_WORD).reshape(values.size, in_a_value)
    return words


def encode_words(words: Words) -> tuple[bool, list[tuple[bytes, bytes]]]:
    """Code values, column by column.

    Args:
        words: Values × words.

    Returns:
        Whether the most significant column was turned; and for each column the section of its
        high bytes and that of its low ones, either of them coded where that is shorter, or the
        column as it is, and nothing.
    """
    columns = [np.ascontiguousarray(column) for column in words.T]
    turned = _turn(columns[-1], 1)
    bits = [_estimate(column) for column in columns]
    is_turned = bits[-1] - _estimate(turned) > _WORTH_TURNING * sum(bits)
    if is_turned:
        columns[-1] = turned
    return is_turned, [_encode_column(column) for column in columns]


@dataclass(frozen=True, slots=True)
class Columns:
    """Decoded values.

    Args:
        columns: Each whole, or in planes of its high bytes and its low ones; the least significant
            first.
        count: How many values there are.
        turned: Whether the most significant column was.
    """

    columns: Sequence[Words | tuple[Plane, Plane]]
    count: int
    turned: bool


def decode_columns(
    sections: Sequence[Sections], count: int, *, turned: bool, decode: Decode
) -> Columns:
    """Decode values as `encode_words` coded them.

    Args:
        sections: Of each column.
        count: How many values there are.
        turned: Whether the most significant column was.
        decode: Of the version that coded them.

    Raises:
        MalformedError: A section is.
    """
    return Columns([_decode_column(*pair, count, decode) for pair in sections], count, turned)


class Joiner:
    """Values joined from their columns, from any value on."""

    def __init__(self, values: Columns) -> None:
        self._turned = values.turned
        self._columns = [
            column
            if isinstance(column, np.ndarray)
            else (column[0].spell_out(values.count), column[1].spell_out(values.count))
            for column in values.columns
        ]

    def write(self, start: int, words: Words) -> None:
        """Write values into their places.

        Args:
            start: The number of the first.
            words: Values × words; written to.
        """
        for begin in range(0, len(words), _BLOCK):
            out = words[begin : begin + _BLOCK]
            part = slice(start + begin, start + begin + len(out))
            if len(self._columns) == 1:
                out[:, 0] = self._column(0, part)
                continue
            # Whole pairs of words: writing every second word takes twice as long.
            pairs = out.view(_PAIR)
            for index in range(pairs.shape[1]):
                pair = pairs[:, index]
                pair[:] = self._column(2 * index + 1, part)
                pair <<= 16
                pair |= self._column(2 * index, part).astype(_PAIR)

    def _column(self, index: int, part: slice) -> Words:
        whole = self._columns[index]
        column = (
            whole[part] if isinstance(whole, np.ndarray) else _join(whole[0][part], whole[1][part])
        )
        is_turned = self._turned and index == len(self._columns) - 1
        return _turn(column, 15) if is_turned else column


def _encode_column(column: Words) -> tuple[bytes, bytes]:
    high, low = _split(column)
    coded_high, coded_low = encode_plane(high), encode_plane(low)
    if coded_high is None and coded_low is None:
        return column.tobytes(), b""
    return coded_high or high.tobytes(), coded_low or low.tobytes()


def _estimate(column: Words) -> float:
    """About the bits a word takes."""
    return sum(map(estimate_bits, _split(column)))


def _split(column: Words) -> tuple[Bytes, Bytes]:
    return (column >> 8).astype(np.uint8), column.astype(np.uint8)


def _decode_column(
    first: Bytes, second: Bytes, count: int, decode: Decode
) -> Words | tuple[Plane, Plane]:
    if second.size:
        return _plane(first, count, decode), _plane(second, count, decode)
    if first.size != _WORD.itemsize * count:
        raise MalformedError("a column has another length")
    return first.view(_WORD)


def _join(high: Bytes, low: Bytes) -> Words:
    column: Words = high.astype(_WORD)
    column <<= 8
    column |= low.astype(_WORD)
    return column


def _plane(section: Bytes, count: int, decode: Decode) -> Plane:
    if section.size > count:
        raise MalformedError("a plane is longer than it has to be")
    return Plane(section) if section.size == count else decode_plane(section, count, decode)


def _turn(column: Words, bits: int) -> Words:
    turned: Words = np.left_shift(column, bits, dtype=_WORD)
    turned |= column >> (16 - bits)
    return turned
