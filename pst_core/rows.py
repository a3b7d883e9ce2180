"""Records become rows: the cells that a task needs, or what is wrong with them.

File formats live in readers.py; splits, labels and the dataset as a whole in data.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pst_core.dataset_spec import Role, SplitName
from pst_core.errors import InvalidDatasetError
from pst_core.fields import is_storable
from pst_core.readers import Record, records
from pst_core.roles import are_names, split_named

Target = Literal["class", "number", "none"]
NAMES_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One example: its cells by role, and its place, such as ``train.csv, line 7``.

    Its split stands here where a column says it.
    """

    cells: Mapping[Role, str]
    place: str
    split: SplitName | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the row at a place cannot be used, and the role at fault."""

    place: str
    role: Role
    reason: str


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file as it was when its dataset was opened; its split, where a folder brings them."""

    path: Path
    split: SplitName | None
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path, split: SplitName | None = None) -> "DataFile":
        stat = path.stat()
        return cls(path, split, stat.st_size, stat.st_mtime_ns)

    def records(self) -> Iterator[tuple[str, Record]]:
        self._check_unchanged()
        yield from records(self.path)
        self._check_unchanged()

    def changed(self) -> InvalidDatasetError:
        return InvalidDatasetError(
            f"{self.path.name} has changed since it was first read.",
            field="dataset.ref",
            remedy="Start again, and leave the file as it is meanwhile.",
        )

    def _check_unchanged(self) -> None:
        try:
            now = DataFile.of(self.path, self.split)
        except OSError as error:
            raise self.changed() from error
        if now != self:
            raise self.changed()


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Files and how their records become rows.

    Args:
        files: In the order in which they are read.
        columns: The column of each role.
        target: What the column of the role ``label`` holds.
        where: Keep only the records whose column (first) has this value (second).
        split_column: What says the split of each row; None: its file does, or it is carved.
    """

    files: tuple[DataFile, ...]
    columns: Mapping[Role, str]
    target: Target
    where: tuple[str, str] | None = None
    split_column: str | None = None

    def read(self, file: DataFile) -> Iterator[Row | Fault]:
        """The rows of one of the files, and those that cannot be used.

        Raises:
            InvalidDatasetError: The file is broken, changed, or lacks a column.
        """
        for number, (place, record) in enumerate(file.records()):
            if number == 0:
                self._require_columns(record, place)
            if self.where is None or record.get(self.where[0]) == self.where[1]:
                yield self._row(record, place)

    def _require_columns(self, record: Record, place: str) -> None:
        needed = {f"dataset.columns.{role}": column for role, column in self.columns.items()}
        if self.split_column is not None:
            needed["dataset.split_column"] = self.split_column
        for field, column in needed.items():
            if column not in record:
                there = [str(name) for name in record if name is not None]
                remedy = f"Its columns are: {_shown(there)}."
                if not are_names(there):
                    remedy += " If that is a row, put a line with the columns' names above it."
                raise InvalidDatasetError(
                    f"{place} has no column {column!r}.", field=field, remedy=remedy
                )

    def _row(self, record: Record, place: str) -> Row | Fault:
        if _overflows(record):
            return Fault(
                place, next(iter(self.columns)), "it has more cells than there are columns"
            )
        cells: dict[Role, str] = {}
        for role, column in self.columns.items():
            number = role == "label" and self.target == "number"
            cell = _cell(record.get(column), decimals=number)
            if cell is None:
                return Fault(place, role, f"the column {column!r} holds no {role}")
            if number and not _is_finite(cell):
                return Fault(place, role, f"the column {column!r} holds no finite number")
            cells[role] = cell
        return Row(cells, place, self._split(record, place))

    def _split(self, record: Record, place: str) -> SplitName | None:
        if self.split_column is None:
            return None
        value = record.get(self.split_column)
        split = split_named(value)
        if split is None:
            raise InvalidDatasetError(
                f"{place}: the column {self.split_column!r} says {str(value)[:50]!r}, and of "
                "splits there are train, validation and test.",
                field="dataset.split_column",
                remedy="Have it say one of them in every row, or carve the splits.",
            )
        return split


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(name[:100] for name in names[:NAMES_SHOWN]) + more


def _overflows(record: Record) -> bool:
    # The csv module puts cells beyond the header under None: a comma that lacks its quotes, and
    # then a text that was cut at it. Empty ones are the trailing commas of spreadsheets.
    extra = record.get(None)
    return isinstance(extra, list) and any(cell.strip() for cell in extra)


def _cell(value: object, *, decimals: bool) -> str | None:
    # JSON's true and 1.0 have no one spelling as a class name.
    usable = isinstance(value, str | int) or (decimals and isinstance(value, float))
    cell = str(value)
    if not usable or isinstance(value, bool) or not cell.strip() or not is_storable(cell):
        return None
    return cell


def _is_finite(cell: str) -> bool:
    try:
        # Python alone reads 1_000 as a number.
        return math.isfinite(float(cell)) and "_" not in cell
    except ValueError:
        return False
