"""A file of rows is read once, in bounded memory, and told of: a DatasetProfile.

What a file's formats are is known in readers.py, which names suit which role in roles.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pst_core.dataset_profile import (
    CELL_SHOWN,
    NAME_SHOWN,
    Cell,
    ColumnProfile,
    DatasetProfile,
    FileKind,
    Guess,
    ProfileLimits,
)
from pst_core.dataset_spec import Role
from pst_core.errors import InvalidDatasetError
from pst_core.lines import encoding_of, is_gzip, refuse_bomb
from pst_core.readers import Record, dialect_of, records
from pst_core.roles import are_names, candidates, split_column_of, split_named
from pst_core.spec import ROLES, Task
from pst_core.tallies import ColumnTally, RowTally, storable

FIRST_GUESSED: tuple[Task, ...] = (
    "text-classification",
    "text-regression",
    "data-to-text",
    "causal-lm",
)
PREVIEW_COLUMNS = 50
NAME_LIMIT = 1_024  # characters; no spec names a column with more, and every name is held
REPEATED = 2  # a cell of the first line that comes again so often in its column is no name


class Survey:
    """One pass over the records."""

    def __init__(self, path: Path, limits: ProfileLimits) -> None:
        self.columns: dict[str, ColumnTally] = {}
        self.rows = RowTally()
        self.preview: list[dict[str, Cell | None]] = []
        self.split_column: str | None = None
        self._compared: dict[str, str | None] = {}
        self._limits, self._name = limits, path.name
        for place, record in records(path, limits):
            self._add(record, place)
        if not self.rows.count:
            raise _refusal(f"{path.name} has no rows.", "Fill it.")

    def _add(self, record: Record, place: str) -> None:
        if self.rows.count == 0:
            self._choose(record)
        for name, value in record.items():
            if isinstance(name, str):
                self._tally(name, place).add(value)
            elif isinstance(value, list) and any(cell.strip() for cell in value):
                raise _refusal(
                    f"{place} has more cells than there are columns.",
                    "Put quotes around what holds the delimiter.",
                )
        cells = {key: record.get(name) for key, name in self._compared.items() if name}
        # JSON may have a row's keys in any order.
        self.rows.add(row=sorted(record.items(), key=_key), **cells)
        if len(self.preview) < self._limits.preview_rows:
            self.preview.append(_shown(record))

    def _choose(self, record: Record) -> None:
        header = [name for name in record if isinstance(name, str)]
        split = split_column_of(header)
        # A fold may be a number: then it says no split.
        self.split_column = split if split and split_named(record[split]) else None
        texts, labels = candidates("text", header), candidates("label", header)
        alone = len(texts) == len(labels) == 1
        self._compared = {
            "text": texts[0] if len(texts) == 1 else None,
            "label": labels[0] if alone else None,
            "split": self.split_column,
        }

    def _tally(self, name: str, place: str) -> ColumnTally:
        tally = self.columns.get(name)
        if tally is None:
            if len(name) > NAME_LIMIT:
                raise _refusal(
                    f"{place} has a column whose name is longer than {NAME_LIMIT:,} characters.",
                    "Give it a short name.",
                )
            if len(self.columns) == self._limits.columns:
                raise _refusal(
                    f"{place}: more than {self._limits.columns:,} different columns up to here.",
                    "Give every row the same keys.",
                )
            tally = self.columns[name] = ColumnTally(name)
        return tally


def profile(path: Path, kind: FileKind, limits: ProfileLimits) -> DatasetProfile:
    """What a file holds.

    Args:
        path: The file; its suffix is its kind's, with ``.gz`` behind it where it is compressed.
        kind: What it is said to be.
        limits: Beyond which it is refused.

    Raises:
        InvalidDatasetError: It cannot be read, with the line or row where there is one.
    """
    if kind != "parquet":
        refuse_bomb(path, limits)
    survey = Survey(path, limits)
    count = survey.rows.count
    columns = tuple(tally.profile(count) for tally in survey.columns.values())
    if kind in {"csv", "tsv"}:
        _refuse_no_header(columns, path.name)
    return DatasetProfile(
        format=kind,
        gzip=kind != "parquet" and is_gzip(path),
        encoding=None if kind == "parquet" else encoding_of(path),
        dialect=dialect_of(path, limits),
        rows=count,
        columns=columns,
        duplicates=survey.rows.duplicates(),
        split_column=survey.split_column and storable(survey.split_column[:NAME_SHOWN]),
        preview=tuple(survey.preview),
        guesses=_guesses(columns),
    )


def _key(item: tuple[object, object]) -> str:
    return str(item[0])


def _shown(record: Record) -> dict[str, Cell | None]:
    named = [(name, value) for name, value in record.items() if isinstance(name, str)]
    return {
        storable(name[:NAME_SHOWN]): None if value is None else storable(str(value)[:CELL_SHOWN])
        for name, value in named[:PREVIEW_COLUMNS]
    }


def _refuse_no_header(columns: Sequence[ColumnProfile], name: str) -> None:
    """Refuse a file whose first line is one of its rows, as far as that can be seen."""
    if are_names([column.name for column in columns]):
        return
    for column in columns:
        repeats = next((v.rows for v in column.values or () if v.value == column.name), 0)
        if repeats >= REPEATED:
            raise _refusal(
                f"{name}, line 1 should name the columns, and its {column.name!r} comes again in "
                f"{repeats:,} rows.",
                "Put a line above it that names the columns, such as text,label.",
            )


def _guesses(columns: Sequence[ColumnProfile]) -> tuple[Guess, ...]:
    found = [(task, _roles(task, columns)) for task in FIRST_GUESSED]
    return tuple(Guess(task=task, columns=roles) for task, roles in found if roles)


def _roles(task: Task, columns: Sequence[ColumnProfile]) -> Mapping[Role, str]:
    """The columns that a task would read; none where one is missing or not clear."""
    required, optional = ROLES[task]
    texts = [column.name for column in columns if column.type == "text"]
    named: dict[Role, str] = {}
    for role in (*required, *optional):
        fit = _labels(task, columns) if role == "label" else texts
        names = [name for name in fit if name not in named.values()]
        usual = candidates(role, names)
        if len(usual) == 1:
            named[role] = usual[0]
        elif role in required:
            # Names say nothing, but there may be only one column of the kind.
            if usual or len(names) != 1 or role in {"prompt", "completion"}:
                return {}
            named[role] = names[0]
    return named


def _labels(task: Task, columns: Sequence[ColumnProfile]) -> list[str]:
    if task == "text-regression":
        return [column.name for column in columns if column.type == "number"]
    return [
        column.name
        for column in columns
        if column.type in {"text", "integer"} and column.values and len(column.values) > 1
    ]


def _refusal(message: str, remedy: str) -> InvalidDatasetError:
    return InvalidDatasetError(message, field="dataset.ref", remedy=remedy)
