"""Bytes coded close to their order-0 entropy, and back.

Streams are zstd frames (RFC 8878) whose literals' Huffman codes do nearly all of it; those of
version 1 were raw deflate streams (RFC 1951), which are only read.
"""

import sys
from collections.abc import Callable
from typing import TypeAlias, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

if sys.version_info >= (3, 14):
    from compression import zstd
    from compression.zstd import CompressionParameter, DecompressionParameter, Strategy
else:
    from backports import zstd
    from backports.zstd import CompressionParameter, DecompressionParameter, Strategy

Bytes = NDArray[np.uint8]
Decode: TypeAlias = Callable[[Bytes, int], Bytes]

# Of the frames' history, so of what reading one takes: 2**17 bytes. Longer ones are refused.
_WINDOW_LOG = 17
# Hardly ever sees that bytes come again: finding it in noise takes longer and saves nothing.
_HUFFMAN: dict[int, int] = {
    CompressionParameter.strategy: Strategy.fast,
    CompressionParameter.min_match: 7,
    CompressionParameter.hash_log: 6,
    CompressionParameter.target_length: 0,  # else literals are not coded
    CompressionParameter.window_log: _WINDOW_LOG,
}
# Weighs repetitions against literals' codes. A code has at least a bit for each byte, which runs
# need not take; and the fewer bits, the more often the above takes a chance likeness for a gain.
_THOROUGH: dict[int, int] = {
    CompressionParameter.compression_level: 16,
    CompressionParameter.search_log: 1,
    CompressionParameter.min_match: 7,
    CompressionParameter.window_log: _WINDOW_LOG,
}
_LOW = 2.25  # bits a byte
_LIMITS: dict[int, int] = {DecompressionParameter.window_log_max: _WINDOW_LOG}
# A stream that saves less than this share costs more time than it saves bytes.
WORTH = 0.98
# What a block's Huffman table takes, about; a stream starts with one.
_TABLE = 60
# Whether a stream is worth trying is told by so many bytes, evenly spread: counting all takes as
# long as coding them.
_SAMPLE = 1 << 14
_RAW = -15  # deflate with a window of 2**15 bytes, neither header nor checksum
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


def encode(data: Bytes) -> bytes | None:
    """Code bytes by their frequencies; None where that is hardly shorter than they are."""
    bits = estimate_bits(data)
    if bits * data.size / 8 + _TABLE >= WORTH * data.size:
        return None
    coded = zstd.compress(data.data, options=_THOROUGH if bits < _LOW else _HUFFMAN)
    return coded if len(coded) < data.size else None


def decode(coded: Bytes, limit: int) -> Bytes:
    """Decode a stream; raises MalformedError, also where it holds more than `limit` bytes."""
    stream = zstd.ZstdDecompressor(options=_LIMITS)
    try:
        data = stream.decompress(coded.data, limit + 1)
    except zstd.ZstdError:
        raise MalformedError("a coded section is broken") from None
    return _whole(data, limit, is_whole=stream.eof and not stream.unused_data)


def decode_deflated(coded: Bytes, limit: int) -> Bytes:
    """As `decode`, of a stream of version 1."""
    # isal reads the same streams as zlib in less than half the time.
    stream = isal_zlib.decompressobj(wbits=_RAW)
    try:
        data = stream.decompress(coded.data, limit + 1)
    except _BROKEN:
        raise MalformedError("a coded section is broken") from None
    return _whole(data, limit, is_whole=stream.eof and not stream.unused_data)


def _whole(data: bytes, limit: int, *, is_whole: bool) -> Bytes:
    if not is_whole or len(data) > limit:
        raise MalformedError("a coded section has another length")
    return np.frombuffer(data, np.uint8)


def _sample(data: Bytes) -> Bytes:
    return data[:: max(data.size // _SAMPLE, 1)]
