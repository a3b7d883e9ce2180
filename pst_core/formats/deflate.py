"""Bytes coded by their frequencies alone, as raw deflate streams (RFC 1951), and back."""

from typing import cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from zlib_ng import zlib_ng

Bytes = NDArray[np.uint8]

_RAW = -15  # a window of 2**15 bytes, neither header nor checksum
_MEMORY = 9  # the longest blocks, so the fewest Huffman tables
_FAST, _THOROUGH = 1, 6
# A stream that saves less than this share costs more time than it saves bytes.
WORTH = 0.98
# What a block's Huffman table takes, about; a stream starts with one.
_TABLE = 60
# Whether a stream is worth trying is told by so many bytes, evenly spread: counting all takes as
# long as coding them.
_SAMPLE = 1 << 14
# Its type stubs take the class for an instance.
_BROKEN = cast("type[Exception]", isal_zlib.IsalError)


class MalformedError(Exception):
    """What is to be decoded is nothing that any encoder writes; says what of it."""


def entropy_bytes(data: Bytes) -> float:
    """The order-0 entropy of all bytes together, in bytes: what codes for single bytes can't beat.

    H = −Σ n_v · log2(n_v / n) / 8 over the byte values v (Shannon 1948).
    """
    counts = np.bincount(data, minlength=256)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / data.size)).sum() / 8)


def estimate_bits(data: Bytes) -> float:
    """About the order-0 entropy of one byte, in bits."""
    sample = _sample(data)
    return 8 * entropy_bytes(sample) / sample.size if sample.size else 0.0


def deflate(data: Bytes) -> bytes | None:
    """Code bytes by their frequencies; None where that is hardly shorter than they are."""
    bits = estimate_bits(data)
    if bits * data.size / 8 + _TABLE >= WORTH * data.size:
        return None
    coded = _compress(data, _FAST, zlib_ng.Z_HUFFMAN_ONLY)
    if bits < 1:
        # A Huffman code has at least one bit for each byte; runs need less.
        coded = min(coded, _compress(data, _THOROUGH, zlib_ng.Z_DEFAULT_STRATEGY), key=len)
    return coded if len(coded) < data.size else None


def inflate(coded: Bytes, limit: int) -> Bytes:
    """Decode a stream; raises MalformedError, also where it holds more than `limit` bytes."""
    # isal reads the same streams as zlib in less than half the time.
    stream = isal_zlib.decompressobj(wbits=_RAW)
    try:
        data = stream.decompress(coded.data, limit + 1)
    except _BROKEN:
        raise MalformedError("a deflated section is broken") from None
    if not stream.eof or stream.unused_data or len(data) > limit:
        raise MalformedError("a deflated section has another length")
    return np.frombuffer(data, np.uint8)


def _compress(data: Bytes, level: int, strategy: int) -> bytes:
    # The same codes as zlib's, in little more than half the time.
    stream = zlib_ng.compressobj(level, zlib_ng.DEFLATED, _RAW, _MEMORY, strategy)
    return stream.compress(data.data) + stream.flush()


def _sample(data: Bytes) -> Bytes:
    return data[:: max(data.size // _SAMPLE, 1)]
