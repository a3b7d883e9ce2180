"""Coded bytes: close to their entropy, and nothing but one whole frame is decoded."""

import sys
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.formats.streams import (
    Bytes,
    Decode,
    MalformedError,
    decode_deflated,
    decode_frame,
    encode,
    entropy_bytes,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_WINDOW = zstd.CompressionParameter.window_log


def array(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def framed(data: bytes, window: int = 17) -> bytes:
    return zstd.compress(data, options={_WINDOW: window})


def streamed(data: bytes, window: int) -> bytes:
    """A frame that says how far back it refers, not how long it is."""
    stream = zstd.ZstdCompressor(options={_WINDOW: window})
    return stream.compress(data) + stream.flush()


CODERS = pytest.mark.parametrize(
    ("code", "decoder"), [(framed, decode_frame), (deflated, decode_deflated)], ids=["2", "1"]
)


def uneven(share: float, size: int = 1 << 18) -> Bytes:
    """Bytes whose numbers fall geometrically, as those of gaps and exponents do."""
    drawn = np.random.default_rng(0).geometric(share, size) - 1
    return np.minimum(drawn, 255).astype(np.uint8)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.35, 0.5, 0.6])
def test_uneven_bytes_take_hardly_more_than_their_entropy(share: float) -> None:
    data = uneven(share)
    coded = encode(data)
    assert coded is not None
    assert len(coded) <= 1.05 * entropy_bytes(data)
    assert np.array_equal(decode_frame(array(coded), data.size), data)


def test_runs_take_less_than_a_bit_a_byte() -> None:
    data = np.repeat(np.random.default_rng(0).integers(0, 2, 1 << 10, np.uint8), 1 << 8)
    coded = encode(data)
    assert coded is not None
    assert len(coded) < data.size / 100


def test_what_comes_again_from_afar_takes_few_bytes() -> None:
    row = (np.random.default_rng(0).random(4096) < 0.02).astype(np.uint8)
    data = np.tile(row, 64)
    coded = encode(data)
    assert coded is not None
    assert len(coded) < data.size / 200


def test_noise_is_not_coded() -> None:
    assert encode(array(np.random.default_rng(0).bytes(1 << 16))) is None


@settings(deadline=None)
@given(st.binary(max_size=500), st.integers(1, 40))
def test_whatever_is_coded_comes_back(piece: bytes, times: int) -> None:
    data = array(piece * times)
    coded = encode(data)
    assert coded is None or np.array_equal(decode_frame(array(coded), data.size), data)


@CODERS
@pytest.mark.parametrize(
    "damage",
    [
        lambda stream: stream[:-1],
        lambda stream: stream[: len(stream) // 2],
        lambda stream: stream + b"\0",
        lambda stream: stream + stream,
        lambda _: b"",
        lambda _: b"\xff" * 40,
    ],
    ids=["cut", "halved", "byte to spare", "two", "empty", "noise"],
)
def test_all_but_one_whole_stream_is_malformed(
    code: Callable[[bytes], bytes], decoder: Decode, damage: Callable[[bytes], bytes]
) -> None:
    data = uneven(0.3, 5000).tobytes()
    with pytest.raises(MalformedError):
        decoder(array(damage(code(data))), len(data))


@CODERS
def test_a_stream_gives_all_that_is_due_and_no_byte_more(
    code: Callable[[bytes], bytes], decoder: Decode
) -> None:
    data = uneven(0.3, 5000).tobytes()
    assert decoder(array(code(data)), len(data)).tobytes() == data
    with pytest.raises(MalformedError, match="another length"):
        decoder(array(code(data)), len(data) - 1)


@CODERS
def test_what_a_stream_has_beyond_what_is_due_takes_no_memory(
    code: Callable[[bytes], bytes], decoder: Decode
) -> None:
    bomb = array(code(bytes(1 << 24)))
    tracemalloc.start()
    with pytest.raises(MalformedError, match="another length"):
        decoder(bomb, 1 << 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("size", [1, 200, 300, 1000, 1 << 16, 1 << 17, 1 << 18])
def test_a_frame_may_refer_as_far_back_as_is_written(size: int) -> None:
    data = np.random.default_rng(0).bytes(size)
    for frame in (framed(data), streamed(data, 17)):
        assert decode_frame(array(frame), size).tobytes() == data


@pytest.mark.parametrize("size", [1000, (1 << 17) + 1, 1 << 18])
def test_a_frame_that_may_refer_farther_back_is_malformed(size: int) -> None:
    data = np.random.default_rng(0).bytes(size)
    with pytest.raises(MalformedError, match="no frame"):
        decode_frame(array(streamed(data, 18)), size)


def test_a_single_segment_may_be_no_longer_than_the_window() -> None:
    data = np.random.default_rng(0).bytes((1 << 17) + 1)
    with pytest.raises(MalformedError, match="no frame"):
        decode_frame(array(framed(data, window=18)), len(data))


def test_a_frame_that_needs_a_dictionary_is_malformed() -> None:
    samples = [uneven(0.3, 2000)[start:].tobytes() for start in range(500)]
    frame = zstd.compress(samples[0], zstd_dict=zstd.train_dict(samples, 4096))
    with pytest.raises(MalformedError, match="no frame"):
        decode_frame(array(frame), len(samples[0]))


@pytest.mark.parametrize("followed", [False, True], ids=["alone", "before another"])
def test_a_frame_to_be_skipped_is_malformed(followed: bool) -> None:
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"nope"
    with pytest.raises(MalformedError, match="no frame"):
        decode_frame(array(skipped + framed(b"") if followed else skipped), 0)


def test_a_frame_of_an_older_format_is_malformed() -> None:
    # Some builds of zstd decode them, in memory that nothing bounds.
    older = b"\x27" + framed(uneven(0.3, 5000).tobytes())[1:]
    with pytest.raises(MalformedError, match="no frame"):
        decode_frame(array(older), 5000)


@pytest.mark.parametrize("length", range(7))
def test_a_frame_of_a_header_cut_short_is_malformed(length: int) -> None:
    with pytest.raises(MalformedError):
        decode_frame(array(framed(b"")[:length]), 0)
