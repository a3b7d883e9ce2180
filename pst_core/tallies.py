"""What is counted of a file's columns and rows while it is read once, in bounded memory."""

import hashlib
import math
import re
from array import array
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pst_core.dataset_profile import (
    CELL_SHOWN,
    NAME_SHOWN,
    VALUES_SHOWN,
    ColumnProfile,
    ColumnType,
    Duplicates,
    Lengths,
    ValueCount,
)

OVERLONG = 10_000  # characters
EXACT = 1024  # characters; longer texts are counted by their leading bits
COMPARED = 2_000_000  # rows whose digests are kept
NOTHING = 0  # the digest of an empty cell
KINDS: dict[type, ColumnType] = {bool: "boolean", int: "integer", float: "number"}
WRITTEN: tuple[tuple[ColumnType, re.Pattern[str]], ...] = (
    ("boolean", re.compile(r"(?i:true|false)")),
    ("integer", re.compile(r"[+-]?[0-9]{1,18}")),
    ("number", re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")),
)


class ColumnTally:
    """What one column holds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.filled = 0
        self._kinds: set[ColumnType] = set()
        self._whitespace = self._overlong = self._longest = 0
        self._shortest: int | None = None
        self._lengths: Counter[int] = Counter()
        self._values: Counter[str] | None = Counter()

    def add(self, value: object) -> None:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return
        if isinstance(value, str):
            if not value.strip():
                self._whitespace += bool(value)
                return
            self._measure(len(value))
            if "text" not in self._kinds:
                self._kinds.add(_written_kind(value))
        else:
            self._kinds.add(KINDS.get(type(value), "nested"))
        self.filled += 1
        if self._values is not None:
            self._count(value)

    def profile(self, rows: int) -> ColumnProfile:
        shown = None if self._values is None else self._values.most_common()
        return ColumnProfile(
            name=storable(self.name[:NAME_SHOWN]),
            type=self.type,
            empty=rows - self.filled,
            whitespace=self._whitespace,
            lengths=self._summed_lengths() if self.type == "text" else None,
            values=shown and tuple(ValueCount(value=v, rows=count) for v, count in shown),
        )

    @property
    def type(self) -> ColumnType:
        kinds = self._kinds
        if not kinds:
            return "empty"
        if kinds == {"integer", "number"}:
            return "number"
        if len(kinds) == 1:
            return next(iter(kinds))
        return "nested" if "nested" in kinds else "text"

    def _measure(self, length: int) -> None:
        self._longest = max(self._longest, length)
        self._shortest = length if self._shortest is None else min(self._shortest, length)
        self._overlong += length > OVERLONG
        shift = max(0, length.bit_length() - EXACT.bit_length())
        self._lengths[length >> shift << shift] += 1

    def _count(self, value: object) -> None:
        shown = storable(value if isinstance(value, str) else repr(value)[: CELL_SHOWN + 1])
        values = self._values
        if values is None or len(shown) > CELL_SHOWN or isinstance(value, dict | list):
            self._values = None
            return
        values[shown] += 1
        if len(values) > VALUES_SHOWN:
            self._values = None

    def _summed_lengths(self) -> Lengths | None:
        lengths = sorted(self._lengths)
        if self._shortest is None:
            return None
        seen, half, median = 0, (self._lengths.total() + 1) // 2, 0
        for median in lengths:
            seen += self._lengths[median]
            if seen >= half:
                break
        return Lengths(
            minimum=self._shortest,
            median=median,
            maximum=self._longest,
            overlong=self._overlong,
        )


class RowTally:
    """Which rows, and which texts, come again: told by digests, the first so many."""

    def __init__(self) -> None:
        self._digests = {name: array("Q") for name in ("row", "text", "label", "split")}
        self.count = 0

    def add(self, **cells: object) -> None:
        """Compare a row by its digests; what has no column is left out every time."""
        self.count += 1
        if self.count <= COMPARED:
            for name, value in cells.items():
                self._digests[name].append(_digest(value))

    def duplicates(self) -> Duplicates:
        rows = self._of("row")
        return Duplicates(
            rows=len(rows) - len(np.unique(rows)),
            texts_with_several_labels=self._several("label"),
            texts_in_several_splits=self._several("split"),
            capped=self.count > COMPARED,
        )

    def _several(self, name: str) -> int | None:
        texts, others = self._of("text"), self._of(name)
        if not len(texts) or not len(others):
            return None
        pairs = np.stack([texts, others], axis=1)
        pairs = np.unique(pairs[(pairs != NOTHING).all(axis=1)], axis=0)
        _, counts = np.unique(pairs[:, 0], return_counts=True)
        return int(np.count_nonzero(counts > 1))

    def _of(self, name: str) -> NDArray[np.uint64]:
        return np.asarray(self._digests[name], np.uint64)


def storable(text: str) -> str:
    """The text with a sign for what no database keeps; Parquet alone lets that through."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _digest(value: object) -> int:
    if value is None or (isinstance(value, str) and not value.strip()):
        return NOTHING
    digest = hashlib.blake2b(repr(value).encode(errors="replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def _written_kind(cell: str) -> ColumnType:
    cell = cell.strip()
    return next((kind for kind, pattern in WRITTEN if pattern.fullmatch(cell)), "text")
