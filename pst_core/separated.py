"""CSV and TSV: which signs keep the cells apart, and the records that they make.

Decided once, from the file's beginning alone, so that the same file always reads alike.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from pst_core.dataset_profile import Dialect, ReadLimits
from pst_core.errors import InvalidDatasetError
from pst_core.lines import LINE_LIMIT

if TYPE_CHECKING:
    import _csv

FIELD_LIMIT = 1_000_000  # characters; a longer cell is a broken quote, not a text
RECORD_LIMIT = LINE_LIMIT  # characters; a record of many lines is no longer than one of one
PREFIX = 256 * 1024  # characters that are looked at to tell the dialect
LIKELY = 0.5  # share of rows as wide as the header, from which on a delimiter is believed
COMMA = Dialect(delimiter=",", escape="doubled")
CSV_DIALECTS = (
    COMMA,
    Dialect(delimiter=";", escape="doubled"),
    Dialect(delimiter="\t", escape="doubled"),
    Dialect(delimiter="|", escape="doubled"),
    Dialect(delimiter=",", escape="backslash"),
    Dialect(delimiter=";", escape="backslash"),
    Dialect(delimiter="\t", escape="backslash"),
    Dialect(delimiter="|", escape="backslash"),
)
TSV_DIALECTS = tuple(dialect for dialect in CSV_DIALECTS if dialect.delimiter == "\t")


class Fit(NamedTuple):
    """How well a dialect explains the beginning of a file."""

    header: int
    """How many columns it gives it."""
    share: float
    """Of the records, as wide as the header."""


def sniff(lines: Iterator[str], dialects: Sequence[Dialect]) -> tuple[Dialect, Iterator[str]]:
    """The dialect of a file, and all of its lines once more.

    A dialect is right if it gives every record as many cells as the header, and more than one. The
    first such one is taken; where there is none, the first that splits the header at all, so that
    what is wrong with a row is told as of that row.
    """
    prefix: list[str] = []
    held = 0
    for line in lines:
        prefix.append(line)
        held += len(line)
        if held > PREFIX:
            break
    return _best(prefix, dialects, whole=held <= PREFIX), chain(prefix, lines)


def separated_records(
    lines: Iterator[str], name: str, dialect: Dialect, limits: ReadLimits
) -> Iterator[tuple[str, dict[object, object]]]:
    """The records, each with its place; cells beyond the header stand under None.

    Raises:
        InvalidDatasetError: A quote is broken, or the header names a column twice or too many.
    """
    csv.field_size_limit(FIELD_LIMIT)
    record = _Record(lines, name)
    reader = _reader(record, dialect)
    header: list[str] | None = None
    try:
        for row in reader:
            record.held = 0
            if not row:
                continue
            if header is None:
                header = row
                _check_header(header, f"{name}, line {reader.line_num}", limits)
            else:
                yield f"{name}, line {reader.line_num}", _named(header, row)
    except csv.Error as error:
        raise InvalidDatasetError(
            f"{name}, line {reader.line_num}: {error}.",
            field="dataset.ref",
            remedy="Check the quotes there.",
        ) from error


class _Record:
    """Lines for a record, until it holds too many characters."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        self._lines, self._name, self._number = lines, name, 0
        self.held = 0

    def __iter__(self) -> "_Record":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        self.held += len(line)
        if self.held > RECORD_LIMIT:
            raise InvalidDatasetError(
                f"{self._name}, line {self._number}: the row that ends after it is longer than "
                f"{RECORD_LIMIT:,} characters.",
                field="dataset.ref",
                remedy="Check the quotes there.",
            )
        return line


def _named(header: Sequence[str], row: Sequence[str]) -> dict[object, object]:
    record: dict[object, object] = dict(zip(header, row, strict=False))
    if len(row) > len(header):
        record[None] = list(row[len(header) :])
    elif len(row) < len(header):
        record |= dict.fromkeys(header[len(row) :])
    return record


def _check_header(header: Sequence[str], place: str, limits: ReadLimits) -> None:
    if len(header) > limits.columns:
        raise InvalidDatasetError(
            f"{place} names {len(header):,} columns, and {limits.columns:,} is the most.",
            field="dataset.ref",
            remedy="Leave out those that are not needed.",
        )
    # Spreadsheets leave empty names behind their last column, and pandas before its first.
    names = [name for name in header if name]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidDatasetError(
            f"{place} names the column {twice[:200]!r} twice.",
            field="dataset.ref",
            remedy="The first line names the columns, each once.",
        )


def _best(prefix: Sequence[str], dialects: Sequence[Dialect], *, whole: bool) -> Dialect:
    fits: dict[Dialect, Fit] = {}
    escaped = any('\\"' in line for line in prefix)
    dialects = [dialect for dialect in dialects if escaped or dialect.escape == "doubled"]
    for dialect in dialects:
        fits[dialect] = _fit(prefix, dialect, whole=whole)
        # A sound file of the likeliest dialect, that is nearly every file, is looked at once.
        if dialect == dialects[0] and _explains(fits[dialect]):
            return dialect
    sound = [dialect for dialect in dialects if _explains(fits[dialect])]
    if sound:
        escape = sound[0].escape
        return max(
            (dialect for dialect in sound if dialect.escape == escape),
            key=lambda dialect: fits[dialect].header,
        )
    first = dialects[0]
    splits = fits[first].header > 1
    likely = [
        dialect
        for dialect in dialects
        if fits[dialect].header > 1
        and (dialect.delimiter == first.delimiter if splits else fits[dialect].share > LIKELY)
    ]
    return max(likely, key=lambda dialect: fits[dialect].share, default=first)


def _explains(fit: Fit) -> bool:
    return fit.header > 1 and fit.share == 1


def _fit(prefix: Sequence[str], dialect: Dialect, *, whole: bool) -> Fit:
    csv.field_size_limit(FIELD_LIMIT)
    reader = _reader(iter(prefix), dialect)
    header, alike, count = 0, 0, 0
    try:
        for row in reader:
            if row and not header:
                header = len(row)
            elif row:
                count += 1
                alike += len(row) == header or (len(row) > header and not any(row[header:]))
    except csv.Error:
        # Of a file that goes on, the last record of its beginning may end within quotes.
        if whole or reader.line_num < len(prefix):
            return Fit(header, 0.0)
    return Fit(header, alike / count if count else 1.0)


def _reader(lines: Iterator[str], dialect: Dialect) -> "_csv.Reader":
    doubled = dialect.escape == "doubled"
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        doublequote=doubled,
        escapechar=None if doubled else "\\",
        strict=True,
    )
