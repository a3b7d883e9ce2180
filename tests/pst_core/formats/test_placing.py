"""Values put where a mask says, in C: as NumPy does it, and never outside what they were given."""

import ctypes
import mmap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pst_core.formats.mask_coding import MarkKind
from pst_core.formats.placing import sections_of
from pst_core.formats.plane_coding import Plane
from pst_core.formats.value_coding import Columns, Joiner, as_words

module = pytest.importorskip(
    "pst_core.formats._place", reason="it was installed without a C compiler"
)
place = module.place_values
PLACES = (module.place_values, module.place_values_anywhere)

Place = Callable[..., bool]
Numbers = tuple[int, int] | None
LIBC = ctypes.CDLL(None)
NOT_AT_ALL = 0  # PROT_NONE

BLOCK = 4096  # of _place.c
SIZES = (1, 8, 63, 64, 65, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77)
CANARY = 0xA5
INDEX_BITS = {0: 8, 1: 0, 2: 1, 4: 2, 16: 4}
NOTHING = (b"", b"", b"")
WHOLE = (b"1234", *NOTHING)  # a column of two words
SKIP = 255


class Out:
    """Memory for entries, of zeros, between bytes that nobody may touch."""

    def __init__(self, size: int, width: int) -> None:
        self.memory = np.full(size * 2 * width + 128, CANARY, np.uint8)
        self.entries = self.memory[64:-64].view(f"<u{2 * width}")
        self.entries[:] = 0

    def is_kept_within(self) -> bool:
        return bool((self.memory[:64] == CANARY).all() and (self.memory[-64:] == CANARY).all())


def before_a_wall(data: NDArray[Any] | bytes) -> NDArray[np.uint8]:
    """The same bytes, after which comes memory that nobody may read."""
    content = np.frombuffer(data, np.uint8)
    room = -(-content.size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, room + mmap.PAGESIZE), np.uint8)
    wall = ctypes.c_void_p(memory.ctypes.data + room)
    assert LIBC.mprotect(wall, ctypes.c_size_t(mmap.PAGESIZE), NOT_AT_ALL) == 0
    memory[room - content.size : room] = content
    return memory[room - content.size : room]


def plane(rng: np.random.Generator, number: int, count: int) -> Plane:
    """A plane of so many bytes: indices into so many values; 0: the bytes themselves."""
    bits = next(bits for most, bits in INDEX_BITS.items() if number <= most)
    data = rng.integers(0, 256, -(-count * bits // 8), np.uint8)
    return Plane(data, rng.bytes(number))


def columns(
    rng: np.random.Generator, numbers: Sequence[Numbers], count: int, *, turned: bool = False
) -> Columns:
    """Values at random; the planes of a column of so many values, None: it is whole."""
    return Columns(
        [
            rng.integers(0, 1 << 16, count, np.uint16)
            if number is None
            else (plane(rng, number[0], count), plane(rng, number[1], count))
            for number in numbers
        ],
        count,
        turned,
    )


def joined(values: Columns, dtype: np.dtype[Any] | type[np.uint32]) -> NDArray[Any]:
    found = np.empty(values.count, dtype)
    Joiner(values).write(0, as_words(found))
    return found


def sections(values: Columns) -> tuple[Any, ...]:
    return tuple(before_a_wall(each) for column in values.columns for each in sections_of(column))


def marks(keep: NDArray[np.bool_], kind: MarkKind) -> bytes:
    match kind:
        case MarkKind.ALL:
            return b""
        case MarkKind.BITS:
            return np.packbits(keep, bitorder="little").tobytes()
        case MarkKind.GAPS:
            gaps = np.diff(np.flatnonzero(keep), prepend=-1) - 1
            return b"".join(b"\xff" * (gap // 255) + bytes([gap % 255]) for gap in gaps)


@settings(deadline=None, max_examples=300)
@given(
    size=st.sampled_from(SIZES),
    width=st.sampled_from([1, 2, 4]),
    density=st.sampled_from([0.001, 0.1, 0.5, 0.97]),
    kind=st.sampled_from(MarkKind),
    turned=st.booleans(),
    place=st.sampled_from(PLACES),
    data=st.data(),
)
def test_each_kept_entry_gets_the_next_value(
    size: int,
    width: int,
    density: float,
    kind: MarkKind,
    turned: bool,
    place: Place,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    keep = np.ones(size, np.bool_) if kind is MarkKind.ALL else rng.random(size) < density
    # In runs too, so that whole words and blocks keep nothing.
    keep &= kind is MarkKind.ALL or np.arange(size) // data.draw(st.integers(1, 3000)) % 2 == 0
    count = int(keep.sum())
    # A column without values is whole.
    few = st.sampled_from([0, 1, 2, 3, 4, 5, 12, 16])
    number = st.none() | st.tuples(few, few) if count else st.none()
    numbers = data.draw(st.lists(number, min_size=width, max_size=width))
    values = columns(rng, numbers, count, turned=turned)
    out = Out(size, width)

    assert place(
        out.entries, kind, before_a_wall(marks(keep, kind)), sections(values), count, turned
    )

    expected = np.zeros_like(out.entries)
    expected[keep] = joined(values, out.entries.dtype)
    assert np.array_equal(out.entries, expected)
    assert out.is_kept_within()


@settings(deadline=None, max_examples=500)
@given(
    size=st.sampled_from(SIZES),
    width=st.sampled_from([1, 2, 4]),
    kind=st.sampled_from(MarkKind),
    fills=st.booleans(),
    more=st.sampled_from([-BLOCK, -64, -1, 0, 1, 64, BLOCK]),
    place=st.sampled_from(PLACES),
    seed=st.integers(0, 2**32),
)
def test_a_mask_that_keeps_another_number_is_told_and_nothing_is_written_outside(
    size: int, width: int, kind: MarkKind, fills: bool, more: int, place: Place, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    length = -(-size // 8)
    noise = rng.integers(0, 256, length if fills else rng.integers(0, 3 * BLOCK), np.uint8)
    match kind:
        case MarkKind.ALL:
            kept, fits = size, True
        case MarkKind.BITS:
            if fills and size % 8:
                noise[-1] >>= rng.integers(0, 8)
            keep = np.unpackbits(noise, bitorder="little")
            kept, fits = int(keep[:size].sum()), noise.size == length and not keep[size:].any()
        case MarkKind.GAPS:
            noise //= rng.choice(np.array([1, 2, 40, 255], np.uint8))
            noise[rng.random(noise.size) < 0.01] = SKIP
            noise[noise.size - rng.integers(0, 2) :] = SKIP
            steps = int((noise + (noise != SKIP).astype(np.int64)).sum())
            kept, fits = int((noise != SKIP).sum()), steps <= size
    count = max(kept + more, 0)
    values = columns(rng, [(4, 0) if count else None] * width, count)
    out = Out(size, width)

    is_right = place(out.entries, kind, before_a_wall(noise), sections(values), count, False)

    assert is_right == (fits and kept == count)
    assert out.is_kept_within()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("missing", [1, 200, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_gaps_that_keep_more_than_there_are_values_are_told(missing: int, place: Place) -> None:
    count = 3 * BLOCK - missing
    values = columns(np.random.default_rng(0), [None, (4, 0) if count else None], count)
    gaps = before_a_wall(bytes(3 * BLOCK))
    out = Out(3 * BLOCK, 2)
    assert not place(out.entries, MarkKind.GAPS, gaps, sections(values), count, False)
    assert out.is_kept_within()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [2, 4, 16])
def test_a_block_may_begin_amid_a_group(number: int, place: Place) -> None:
    # Of the first block's gaps one keeps nothing, so that the second begins at an odd value.
    keep = np.arange(4 * BLOCK) >= SKIP + 10
    count = int(keep.sum())
    values = columns(np.random.default_rng(0), [None, (number, number)], count)
    out = Out(keep.size, 2)
    gaps = before_a_wall(marks(keep, MarkKind.GAPS))
    assert place(out.entries, MarkKind.GAPS, gaps, sections(values), count, False)
    assert np.array_equal(out.entries[keep], joined(values, np.uint32))


@pytest.mark.parametrize(
    ("out", "kind", "given", "count"),
    [
        (bytearray(8), 0, WHOLE[:3], 2),
        (bytearray(8), 0, WHOLE * 3, 2),
        (bytearray(8), 0, (), 2),
        (bytearray(8), 3, WHOLE * 2, 2),
        (bytearray(8), -1, WHOLE * 2, 2),
        (bytearray(7), 0, WHOLE * 2, 2),
        (memoryview(bytearray(12))[1:9], 0, WHOLE * 2, 2),
        (bytearray(8), 0, WHOLE * 2, 1),
        (bytearray(8), 0, WHOLE * 2, -2),
        (bytearray(8), 0, WHOLE * 2, 2**63 - 1),
        (bytearray(8), 0, (b"", bytes(16), b"", bytes(16)), 2**62),
        (bytearray(8), 0, (b"123", *NOTHING, *WHOLE), 2),
        (bytearray(8), 0, (b"12", b"", b"1", b"", *WHOLE), 2),
        (bytearray(8), 0, (b"1", b"ab", b"12", b"", *WHOLE), 9),
        (bytearray(8), 0, (b"1", b"a", b"12", b"", *WHOLE), 2),
        (bytearray(8), 0, (b"", b"ab", b"12", b"", *WHOLE), 2),
        (bytearray(8), 0, (b"1", bytes(17), b"12", b"", *WHOLE), 2),
    ],
)
def test_what_does_not_fit_together_is_refused(
    out: bytearray | memoryview, kind: int, given: tuple[bytes, ...], count: int
) -> None:
    with pytest.raises(ValueError, match=r"column|mask|Sections"):
        place(out, kind, b"", given, count, False)
    if isinstance(out, bytearray):
        out.append(0)  # refused while somebody holds on to it


def test_nothing_is_held_on_to() -> None:
    out, mask, section = bytearray(8), bytearray(1), bytearray(b"1234")
    assert not place(out, MarkKind.BITS, mask, (section, *NOTHING, *WHOLE), 2, False)
    for each in (out, mask, section):
        each.append(0)


def test_what_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(TypeError):
        place(bytes(8), 0, b"", WHOLE * 2, 2, False)
    with pytest.raises(TypeError):
        place(bytearray(8), 0, b"", (*WHOLE, None, *NOTHING), 2, False)
