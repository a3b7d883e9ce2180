"""Values put where a mask says, in C: as NumPy does it, and never outside what they were given."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pst_core.formats.mask_coding import MarkKind

place = pytest.importorskip(
    "pst_core.formats._place", reason="it was installed without a C compiler"
).place_values

BLOCK = 2048  # of _place.c
SIZES = (1, 8, 63, 64, 65, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77)
CANARY = 0xA5
SKIP = 255


class Out:
    """Memory for entries, of zeros, between bytes that nobody may touch."""

    def __init__(self, size: int, width: int) -> None:
        self.memory = np.full(size * 2 * width + 128, CANARY, np.uint8)
        self.entries = self.memory[64:-64].view(f"<u{2 * width}")
        self.entries[:] = 0

    def is_kept_within(self) -> bool:
        return bool((self.memory[:64] == CANARY).all() and (self.memory[-64:] == CANARY).all())


def sections(
    values: NDArray[Any], width: int, split: list[bool], *, turned: bool
) -> tuple[Any, ...]:
    """Values as a blob has them: a pair for each column of words."""
    columns = values.view("<u2").reshape(values.size, width).T.copy()
    if turned:
        columns[-1] = columns[-1] << 1 | columns[-1] >> 15
    pairs: list[Any] = []
    for column, is_split in zip(columns, split, strict=True):
        high, low = (column >> 8).astype(np.uint8), column.astype(np.uint8)
        pairs += (high, low) if is_split else (column, b"")
    return tuple(pairs)


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
    data=st.data(),
)
def test_each_kept_entry_gets_the_next_value(
    size: int, width: int, density: float, kind: MarkKind, turned: bool, data: st.DataObject
) -> None:
    split = data.draw(st.lists(st.booleans(), min_size=width, max_size=width))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    keep = np.ones(size, np.bool_) if kind is MarkKind.ALL else rng.random(size) < density
    # In runs too, so that whole words and blocks keep nothing.
    keep &= kind is MarkKind.ALL or np.arange(size) // data.draw(st.integers(1, 3000)) % 2 == 0
    values = rng.integers(0, 256, 2 * width * int(keep.sum()), np.uint8).view(f"<u{2 * width}")
    given_sections = sections(values, width, split, turned=turned)
    out = Out(size, width)

    assert place(out.entries, kind, marks(keep, kind), given_sections, values.size, turned)

    expected = np.zeros(size, values.dtype)
    expected[keep] = values
    assert np.array_equal(out.entries, expected)
    assert out.is_kept_within()


@settings(deadline=None, max_examples=500)
@given(
    size=st.sampled_from(SIZES),
    width=st.sampled_from([1, 2, 4]),
    kind=st.sampled_from(MarkKind),
    fills=st.booleans(),
    more=st.sampled_from([-BLOCK, -64, -1, 0, 1, 64, BLOCK]),
    seed=st.integers(0, 2**32),
)
def test_a_mask_that_keeps_another_number_is_told_and_nothing_is_written_outside(
    size: int, width: int, kind: MarkKind, fills: bool, more: int, seed: int
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
            noise //= rng.integers(1, 256, dtype=np.uint8)
            steps = int((noise + (noise != SKIP).astype(np.int64)).sum())
            kept, fits = int((noise != SKIP).sum()), steps <= size
    count = max(kept + more, 0)
    values = np.zeros(2 * width * count, np.uint8).view(f"<u{2 * width}")
    columns = sections(values, width, [True] * width, turned=False)
    out = Out(size, width)

    is_right = place(out.entries, kind, noise, columns, count, False)

    assert is_right == (fits and kept == count)
    assert out.is_kept_within()


@pytest.mark.parametrize(
    ("out", "kind", "columns", "count"),
    [
        (bytearray(8), 0, (b"aa", b"bb", b"cc"), 2),
        (bytearray(8), 0, (), 2),
        (bytearray(8), 0, (b"",) * 10, 0),
        (bytearray(8), 3, (b"1234", b"", b"1234", b""), 2),
        (bytearray(8), -1, (b"1234", b"", b"1234", b""), 2),
        (bytearray(7), 0, (b"1234", b"", b"1234", b""), 2),
        (bytearray(8), 0, (b"123", b"", b"1234", b""), 2),
        (bytearray(8), 0, (b"12", b"1", b"1234", b""), 2),
        (bytearray(8), 0, (b"1234", b"", b"1234", b""), 1),
        (bytearray(8), 0, (b"1234", b"", b"1234", b""), -2),
        (memoryview(bytearray(12))[1:9], 0, (b"1234", b"", b"1234", b""), 2),
    ],
)
def test_what_does_not_fit_together_is_refused(
    out: bytearray | memoryview, kind: int, columns: tuple[bytes, ...], count: int
) -> None:
    with pytest.raises(ValueError, match=r"column|mask|Sections"):
        place(out, kind, b"", columns, count, False)


def test_what_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(TypeError):
        place(bytes(8), 0, b"", (b"1234", b"", b"1234", b""), 2, False)
    with pytest.raises(TypeError):
        place(bytearray(8), 0, b"", (b"1234", b"", None, b""), 2, False)
