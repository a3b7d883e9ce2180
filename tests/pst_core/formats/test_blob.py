"""One tensor packed and unpacked: nothing is lost, and nothing malformed is believed."""

import contextlib
import hashlib
import mmap
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from pst_core.errors import CheckpointCorruptError, CheckpointError, CheckpointVersionError
from pst_core.formats import blob, mask_coding, placing, value_coding
from pst_core.formats.mask_coding import Mask, MaskCoding, decode_mask, encode_mask, positions
from pst_core.formats.rounding import round_to
from pst_core.formats.streams import Bytes, MalformedError, decode_deflated, entropy_bytes
from pst_core.formats.value_coding import as_words, encode_words
from pst_core.spec import ValueDtype

# uint16 is bfloat16; the unsigned type of the same width shows the bits themselves.
DTYPES = {"float32": "uint32", "float16": "uint16", "uint16": "uint16", "float64": "uint64"}
HEADER = 16
TABLE_AT = HEADER + 2 * 8
CODING_AT = TABLE_AT + 4
TURNED_AT = CODING_AT + 5
MASK_AT = TURNED_AT + 1 + 8

Sample = tuple[NDArray[Any], Mask]

_FORMER = Path(__file__).with_name("version_1.safetensors")
FORMER = load_file(_FORMER)
with safe_open(_FORMER, "np") as former:
    FORMER_SHA256 = former.metadata()


@pytest.fixture(scope="module", autouse=True, params=["C", "NumPy"])
def placed_by(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here is so whichever puts the values where they belong."""
    if request.param == "C" and not placing.HAS_C:
        pytest.skip("it was installed without a C compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "HAS_C", request.param == "C")
        yield


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """A tensor of random bit patterns, so of NaN payloads and denormals too, and a mask."""
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = rng.integers(0, np.iinfo(DTYPES[dtype]).max, shape, DTYPES[dtype], endpoint=True)
    mask = rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return np.asarray(bits).view(dtype), np.asarray(mask)


@contextlib.contextmanager
def blocks_of(entries: int) -> Iterator[None]:
    """Have segments decoded so many at a time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (mask_coding, value_coding):
            patch.setattr(module, "_BLOCK", entries)
        yield


def decode_positions(coding: MaskCoding, coded: Bytes, size: int, kept: int) -> None:
    marks = decode_mask(coding, coded, size, kept, decode_deflated)
    assert marks is not None
    list(positions(marks))


def bits_of(values: NDArray[Any]) -> NDArray[Any]:
    return values.view(DTYPES[values.dtype.name])


def small() -> Sample:
    rng = np.random.default_rng(5)
    values = rng.standard_normal((3, 5)).astype(np.float16)
    return values, np.arange(15).reshape(3, 5) % 4 == 0


def seal(body: bytes, *, magic: bytes = blob.MAGIC, version: int = blob.VERSION) -> bytes:
    """Give bytes a true checksum, so that what refuses them is not the checksum."""
    return struct.pack("<4sII", magic, version, zlib.crc32(body)) + body


def altered(offset: int, new: bytes) -> bytes:
    packed = bytearray(blob.pack(*small()))
    packed[offset : offset + len(new)] = new
    return seal(bytes(packed[12:]))


@settings(deadline=None)
@given(samples())
def test_kept_entries_keep_their_bits_and_pruned_ones_are_positive_zero(sample: Sample) -> None:
    values, mask = sample
    unpacked = blob.unpack(blob.pack(values, mask), "w")
    assert unpacked.dtype == values.dtype
    assert unpacked.shape == values.shape
    assert np.array_equal(bits_of(unpacked), np.where(mask, bits_of(values), 0))


@settings(deadline=None)
@given(samples())
def test_the_mask_comes_back(sample: Sample) -> None:
    values, mask = sample
    unpacked = blob.unpack_mask(blob.pack(values, mask), "w")
    assert unpacked.dtype == np.bool_
    assert unpacked.shape == mask.shape
    assert np.array_equal(unpacked, mask)


@settings(deadline=None)
@given(samples())
def test_the_header_tells_shape_dtype_and_what_is_kept(sample: Sample) -> None:
    values, mask = sample
    header = blob.read_header(blob.pack(values, mask), "w")
    assert (header.dtype, header.shape) == (values.dtype, values.shape)
    assert (header.is_masked, header.kept) == (True, int(mask.sum()))


@settings(deadline=None)
@given(samples())
def test_a_tensor_without_a_mask_keeps_all_its_bits(sample: Sample) -> None:
    values, _ = sample
    packed = blob.pack(values)
    assert not blob.read_header(packed, "w").is_masked
    assert np.array_equal(bits_of(blob.unpack(packed, "w")), bits_of(values))


def test_a_kept_zero_stays_kept() -> None:
    mask = np.array([[True, False]])
    packed = blob.pack(np.zeros((1, 2), np.float32), mask)
    assert np.array_equal(blob.unpack_mask(packed, "w"), mask)


def test_negative_zero_and_nan_payloads_survive() -> None:
    bits = np.array([[0x80000000, 0x7FC12345], [0xFFA00001, 0x7F800000]], np.uint32)
    unpacked = blob.unpack(blob.pack(bits.view(np.float32), np.ones((2, 2), np.bool_)), "w")
    assert np.array_equal(unpacked.view(np.uint32), bits)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "float64"])
@pytest.mark.parametrize("density", [0, 1e-6, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.75, 0.99, 1])
def test_a_tensor_of_many_blocks_comes_back(density: float, dtype: str) -> None:
    rng = np.random.default_rng(0)
    # No power of two divides it, so that segments and blocks end anywhere.
    floats = rng.standard_normal((1531, 1777), np.float32)
    values = floats.view(np.uint16)[:, :1777] if dtype == "uint16" else floats.astype(dtype)
    mask = rng.random(values.shape) < density
    packed = blob.pack(values, mask)
    assert np.array_equal(blob.unpack(packed, "w"), np.where(mask, values, values.dtype.type(0)))
    assert np.array_equal(blob.unpack_mask(packed, "w"), mask)


@pytest.mark.parametrize("kept", [0, 1 << 15, (1 << 16) - 1, (1 << 19) + 7, (1 << 20) - 1])
def test_one_entry_that_is_kept_of_a_million_is_found_wherever_it_is(kept: int) -> None:
    mask = np.arange(1 << 20) == kept
    packed = blob.pack(np.ones(mask.size, np.float16), mask)
    assert np.array_equal(np.flatnonzero(blob.unpack(packed, "w")), [kept])


def test_arrays_in_another_memory_order_come_back() -> None:
    values, mask = small()
    flipped = blob.pack(np.asfortranarray(values), np.asfortranarray(mask))
    assert flipped == blob.pack(values, mask)


def test_an_unpacked_array_is_writable() -> None:
    assert blob.unpack(blob.pack(*small()), "w").flags.writeable


def test_the_documented_example_is_what_is_written() -> None:
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    example = bytes.fromhex(text.split("```")[1])
    values = np.array([[1.5, 0.0, -2.0]], np.float32)
    assert blob.pack(values, np.array([[True, False, True]])) == example
    assert np.array_equal(blob.unpack(example, "w"), values)


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        (np.zeros(3, np.int64), np.ones(3, np.bool_)),
        (np.zeros(3, np.float32), np.ones(3, np.uint8)),
        (np.zeros(3, np.float32), np.ones((3, 1), np.bool_)),
        (np.zeros((1,) * 9, np.float32), np.ones((1,) * 9, np.bool_)),
    ],
    ids=["dtype", "mask dtype", "shape", "dimensions"],
)
def test_what_does_not_fit_the_format_is_not_packed(values: blob.Values, mask: Mask) -> None:
    with pytest.raises(ValueError, match="Cannot pack"):
        blob.pack(values, mask)


def test_a_blob_cut_anywhere_is_refused() -> None:
    packed = blob.pack(*small())
    for length in range(len(packed)):
        with pytest.raises(CheckpointCorruptError, match=r"decoder\.w"):
            blob.unpack(packed[:length], "decoder.w")


def test_a_blob_with_bytes_to_spare_is_refused() -> None:
    packed = blob.pack(*small())
    with pytest.raises(CheckpointCorruptError, match="its segments take"):
        blob.unpack(seal(packed[12:] + bytes(8)), "w")


def test_every_flipped_bit_is_refused() -> None:
    packed = blob.pack(*small())
    for position in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[position // 8] ^= 1 << (position % 8)
        with pytest.raises(CheckpointError):
            blob.unpack(bytes(flipped), "w")


def test_every_flipped_bit_of_the_table_and_mask_is_refused_under_a_true_checksum() -> None:
    packed = blob.pack(*small())
    for position in range(8 * TABLE_AT, 8 * (MASK_AT + 2)):
        byte = packed[position // 8] ^ 1 << (position % 8)
        if position // 8 == TURNED_AT and byte <= 1:
            continue  # it means other values, which only the checksum can tell
        with pytest.raises(CheckpointCorruptError):
            blob.unpack(altered(position // 8, bytes([byte])), "w")


def test_a_newer_version_is_told_from_damage() -> None:
    with pytest.raises(CheckpointVersionError, match=r"decoder\.w.*Upgrade"):
        blob.unpack(seal(b"whatever it is", version=3), "decoder.w")


@pytest.mark.parametrize(
    ("packed", "problem"),
    [
        (seal(blob.pack(*small())[12:], magic=b"PSTA"), "magic"),
        (seal(blob.pack(*small())[12:], version=0), "no version 0"),
        (altered(12, b"\x00"), "no dtype code 0"),
        (altered(12, b"\x05"), "no dtype code 5"),
        (altered(13, b"\x00"), "no mask, and does not keep every entry"),
        (altered(13, b"\x02"), "bits without a meaning"),
        (altered(14, b"\x01"), "bits without a meaning"),
        (altered(15, b"\x09"), "9 dimensions"),
        (altered(15, b"\x08"), "too few for its header"),
        (altered(HEADER, struct.pack("<Q", 2)), "mask is malformed"),
        (altered(HEADER, struct.pack("<QQ", 2**63, 2**63)), "too large"),
        (altered(HEADER, struct.pack("<QQ", 0, 2**63)), "too large"),
        (altered(HEADER, struct.pack("<QQ", 2**20, 2**20)), "too few for 1048576 segments"),
        (altered(TABLE_AT, struct.pack("<I", 2**31)), "keeps more than it has"),
        (altered(TABLE_AT, struct.pack("<I", 3)), "values are malformed"),
        (altered(CODING_AT, b"\x04"), "no mask coding 4"),
        (altered(CODING_AT, b"\x02"), "mask is malformed"),
        (altered(CODING_AT + 1, struct.pack("<I", 2**32 - 1)), "its segments take"),
        (altered(TURNED_AT, b"\x02"), "bits without a meaning"),
        (altered(MASK_AT, b"\x10\x11"), "does not keep 4"),
        (altered(MASK_AT + 1, b"\x91"), "mask is malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_blob_is_refused_with_the_reason(packed: bytes, problem: str) -> None:
    with pytest.raises(CheckpointCorruptError, match=problem):
        blob.unpack(packed, "w")


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_noise_under_a_true_checksum_never_crashes(noise: bytes) -> None:
    with contextlib.suppress(CheckpointError):
        blob.unpack(seal(noise), "w")


@settings(deadline=None)
@given(st.integers(0, 700), st.sampled_from([0.002, 0.1, 0.5, 0.98]), st.integers(0, 2**32))
def test_what_is_decoded_does_not_depend_on_the_blocks(
    size: int, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(size).astype(np.float16)
    mask = rng.random(size) < density
    # As few as leave gaps of more than a byte at blocks' ends.
    with blocks_of(8):
        packed = blob.pack(values, mask)
        assert np.array_equal(blob.unpack(packed, "w"), np.where(mask, values, np.float16(0)))
        assert np.array_equal(blob.unpack_mask(packed, "w"), mask)


@pytest.mark.parametrize(
    ("gaps", "size"),
    [
        ([], 1000),
        ([0] * 8 + [255], 1000),
        ([0] * 8 + [255] * 8, 3000),
        ([255] * 8 + [0], 2040),
        ([0] * 8 + [200], 100),
        ([0] * 12, 1000),
        ([0] * 3, 1000),
        ([0] * 900, 1000),
    ],
    ids=["empty", "skip last", "skips last", "skips too far", "too far", "more", "fewer", "long"],
)
def test_gaps_that_keep_another_number_are_malformed(gaps: list[int], size: int) -> None:
    stream = zlib.compressobj(wbits=-15)
    data = np.frombuffer(stream.compress(bytes(gaps)) + stream.flush(), np.uint8)
    with blocks_of(8), pytest.raises(MalformedError):
        decode_positions(MaskCoding.CODED_GAPS, data, size, kept=9)


@pytest.mark.parametrize("sparsity", [0.05, 0.1, 0.2, 0.3])
def test_a_mask_that_keeps_most_is_coded_as_bits_near_its_entropy(sparsity: float) -> None:
    mask = np.random.default_rng(0).random(1 << 20) >= sparsity
    coding, coded = encode_mask(mask, np.flatnonzero(mask))
    pruned = 1 - mask.mean()
    bits = -(pruned * np.log2(pruned) + (1 - pruned) * np.log2(1 - pruned))
    assert coding is MaskCoding.CODED_BITS
    assert len(coded) <= 1.1 * mask.size * bits / 8


@pytest.mark.parametrize("sparsity", [0.75, 0.9, 0.95])
def test_a_mask_that_keeps_few_is_coded_as_gaps_near_its_entropy(sparsity: float) -> None:
    mask = np.random.default_rng(0).random(1 << 20) >= sparsity
    coding, coded = encode_mask(mask, np.flatnonzero(mask))
    bits = -(sparsity * np.log2(sparsity) + (1 - sparsity) * np.log2(1 - sparsity))
    assert coding is MaskCoding.CODED_GAPS
    assert len(coded) <= 1.03 * mask.size * bits / 8


@pytest.mark.parametrize(("dtype", "is_worth_it"), [("bfloat16", True), (None, False)])
def test_words_are_turned_where_that_saves_half_a_per_cent(
    dtype: ValueDtype | None, is_worth_it: bool
) -> None:
    # As much is saved of either, of twice as many bits in float32.
    values = np.random.default_rng(0).normal(0, 0.02, 1 << 18).astype(np.float32)
    rounded = round_to(values, "F32", dtype) if dtype else values
    assert encode_words(as_words(rounded))[0] is is_worth_it


def test_words_are_turned_where_that_saves_most_of_what_is_left() -> None:
    # Of few ones among zeros, only the exponent is no single byte throughout.
    values = (np.random.default_rng(0).random((1024, 1024)) < 0.006).astype(np.float32)
    assert len(blob.pack(values)) < 12_000


@pytest.mark.parametrize("name", sorted(FORMER))
def test_what_version_1_packed_is_read(name: str) -> None:
    # Written by a release that packed in version 1, with the SHA-256 of what it packed.
    unpacked = blob.unpack(FORMER[name], name)
    assert hashlib.sha256(unpacked.tobytes()).hexdigest() == FORMER_SHA256[name]
    header = blob.read_header(FORMER[name], name)
    assert blob.unpack_mask(FORMER[name], name).sum() == header.kept


@pytest.mark.parametrize("name", sorted(FORMER))
def test_what_version_1_packed_is_not_taken_for_version_2(name: str) -> None:
    packed = seal(FORMER[name].tobytes()[12:], version=2)
    with pytest.raises(CheckpointCorruptError, match="no frame"):
        blob.unpack(packed, name)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(FORMER)), st.data())
def test_damage_to_version_1_under_a_true_checksum_never_crashes(
    name: str, data: st.DataObject
) -> None:
    body = bytearray(FORMER[name].tobytes()[12:])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(4, len(body) - 1))
        body[start : start + 4] = data.draw(st.binary(min_size=1, max_size=4))
    with contextlib.suppress(CheckpointError):
        blob.unpack(seal(bytes(body), version=1), name)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_under_a_true_checksum_never_crashes(data: st.DataObject) -> None:
    values = np.random.default_rng(0).normal(0, 0.04, (96, 96)).astype(np.float32)
    mask = np.abs(values) > data.draw(st.sampled_from([0.05, 0.1]))
    body = bytearray(blob.pack(values, mask)[12:])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(4, len(body) - 1))
        body[start : start + 4] = data.draw(st.binary(min_size=1, max_size=4))
    block = data.draw(st.sampled_from([64, 1 << 16]))
    with contextlib.suppress(CheckpointError), blocks_of(block):
        assert blob.unpack(seal(bytes(body)), "w").dtype == np.float32


@pytest.mark.parametrize("side", [1000, 1100])
def test_tensors_of_any_size_come_back_in_memory_of_their_own(side: int) -> None:
    values = np.random.default_rng(0).normal(0, 0.02, (side, side)).astype(np.float32)
    packed = blob.pack(values)
    first, second = blob.unpack(packed, "w"), blob.unpack(packed, "w")
    first[:] = 0
    np.testing.assert_array_equal(second, values)


def test_unpacking_takes_little_more_memory_than_the_tensor() -> None:
    # All sections are coded: float64 has the most, and these have zeros in their lower bits.
    values = np.random.default_rng(0).normal(0, 0.02, (2048, 1024)).astype(np.float16)
    mask = np.abs(values) > 0.01
    packed = blob.pack(values.astype(np.float64), mask)
    assert len(packed) < values.nbytes
    tracemalloc.start()
    blob.unpack(packed, "w")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The tensor's own memory is not Python's.
    assert peak < 20_000_000


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.75, 0.9, 0.95])
@pytest.mark.parametrize("spread", [0.02, 0.04])
def test_what_a_threshold_keeps_is_packed_close_to_its_entropy(
    dtype: ValueDtype | None, sparsity: float, spread: float
) -> None:
    values = np.random.default_rng(0).normal(0, spread, (768, 1024)).astype(np.float32)
    mask = np.abs(values) > np.quantile(np.abs(values), sparsity) if sparsity else None
    rounded = round_to(values, "F32", dtype) if dtype else values
    kept = rounded if mask is None else rounded[mask]
    planes = kept.reshape(-1).view(np.uint8).reshape(kept.size, -1).T
    density = kept.size / values.size
    bits = -(density * np.log2(density) + (1 - density) * np.log2(1 - density)) if sparsity else 0
    limit = sum(entropy_bytes(np.ascontiguousarray(plane)) for plane in planes)
    assert len(blob.pack(rounded, mask)) <= 1.03 * (limit + values.size * bits / 8) + 256


def test_noise_is_stored_as_it_is() -> None:
    noise = np.frombuffer(np.random.default_rng(0).bytes(1 << 16), np.uint32).view(np.float32)
    assert len(blob.pack(noise)) < noise.nbytes + 100


def test_a_tensor_of_one_value_takes_hardly_any_bytes() -> None:
    assert len(blob.pack(np.full(1 << 20, 1.5, np.float32))) < 1000


def test_a_shape_that_its_bytes_cannot_hold_allocates_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The kernel's memory is none that Python counts.
    monkeypatch.setattr(mmap, "mmap", lambda *_: pytest.fail("memory was asked for"))
    huge = altered(HEADER, struct.pack("<QQ", 2**20, 2**20))
    tracemalloc.start()
    with pytest.raises(CheckpointCorruptError):
        blob.unpack(huge, "w")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
