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
    from compression.zstd import CompressionParameter, Strategy
else:
    from backports import zstd
    from backports.zstd import CompressionParameter, Strategy

Bytes = NDArray[np.uint8]
Decode: TypeAlias = Callable[[Bytes, int], Bytes]

ZSTD_VERSION: str = zstd.zstd_version
_MAGIC = b"\x28\xb5\x2f\xfd"
# How far back a frame may refer, so what reading one takes: 2**17 bytes.
_WINDOW_LOG = 17
# Hardly looks for bytes that come again: to find some in noise takes longer and saves nothing.
_HUFFMAN: dict[int, int] = {
    CompressionParameter.compression_level: 1,
    CompressionParameter.strategy: Strategy.fast,
    CompressionParameter.min_match: 7,
    CompressionParameter.hash_log: 6,
    CompressionParameter.window_log: _WINDOW_LOG,
}
# Weighs what comes again against its Huffman codes, in 15 to 50 times as long. For what has few
# bits a byte: the other takes chance likenesses for gains then, and runs need less than one.
_THOROUGH: dict[int, int] = {
    CompressionParameter.compression_level: 16,
    CompressionParameter.search_log: 1,
    CompressionParameter.min_match: 7,
    CompressionParameter.window_log: _WINDOW_LOG,
}
_FEW = 2.4  # bits
# A stream that saves less than this share costs more time than it saves bytes.
WORTH = 0.98
# What a block's Huffman table takes, about; a stream starts with one.
_TABLE = 60
# Whether a stream is worth trying is told by so many bytes, evenly spread: counting all takes as
# long as coding them.
_SAMPLE = 1 << 14
_SHORTEST_HEADER, _LONGEST_HEADER = 6, 18
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
    coded = zstd.compress(data.data, options=_THOROUGH if bits < _FEW else _HUFFMAN)
    return coded if len(coded) < data.size else None


def decode_frame(coded: Bytes, limit: int) -> Bytes:
    """Decode a stream; raises MalformedError, also where it holds more than `limit` bytes."""
    if not _is_plain(coded[:_LONGEST_HEADER].tobytes()):
        raise MalformedError("a coded section is no frame that is written here")
    stream = zstd.ZstdDecompressor()
    try:
        data = stream.decompress(coded.data, limit + 1)
    except zstd.ZstdError:
        raise MalformedError("a coded section is broken") from None
    return _whole(data, limit, is_whole=stream.eof and not stream.unused_data)


def _is_plain(start: bytes) -> bool:
    """Whether a Zstandard frame starts here that takes no dictionary and no more than our window.

    zstd itself does not look at the window of what it decodes at once, and may know older formats.
    """
    if len(start) < _SHORTEST_HEADER or not start.startswith(_MAGIC):
        return False
    descriptor = start[len(_MAGIC)]
    size_code, is_single, dictionary = descriptor >> 6, descriptor >> 5 & 1, descriptor & 3
    rest = start[len(_MAGIC) + 1 :]
    if is_single:  # may refer to all of its content, whose size comes here
        size = int.from_bytes(rest[: 1 << size_code], "little")
        window = size + 256 if size_code == 1 else size
    else:
        exponent, mantissa = divmod(rest[0], 8)
        window = (8 + mantissa) << (7 + exponent)
    return not dictionary and window <= 1 << _WINDOW_LOG


def decode_deflated(coded: Bytes, limit: int) -> Bytes:
    """As `decode_frame`, of a stream of version 1."""
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
    # Odd, as what comes again does so in steps of powers of two.
    return data[:: data.size // _SAMPLE | 1]
