"""A dataset: checked, counted, hashed and split in one pass, then read again on demand.

What makes a row lives in rows.py, tokens and batches in batches.py; no text stays in memory.
"""

import hashlib
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pst_core.dataset_spec import Dataset, Role, SplitName, Splits
from pst_core.errors import InvalidDatasetError
from pst_core.events import DataEvent
from pst_core.readers import SPLITS, split_files
from pst_core.references import DataSource
from pst_core.report import DataSummary
from pst_core.roles import resolve
from pst_core.rows import DataFile, Fault, Row, Table, Target
from pst_core.shuffle import stratified

ROLES: tuple[Role, ...] = ("text", "pair", "prompt", "completion", "label")  # as they are hashed
UNUSED = -1  # of a row that lies in no split; the others have the split's position in SPLITS
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
LABEL_LIMIT = 10_000  # more different ones are texts or numbers, not classes
FAULTS_SHOWN = 5
DIGEST_BYTES = 16  # of each row; kept for every row, so no longer than needed


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SplitData:
    """A dataset cut into splits.

    Args:
        table: Where the rows are read from.
        labels: The names of the classes; a class's number is its position. () without classes.
        split_of: The split of each row in file order, as its position in SPLITS.
        sha256: Over each split's name and rows.
    """

    table: Table
    labels: tuple[str, ...]
    split_of: NDArray[np.int8]
    sha256: str

    def rows(self, split: SplitName) -> Iterator[Row]:
        """The rows of a split from the disk, in file order.

        Raises:
            InvalidDatasetError: A file is no longer what it was when the dataset was opened.
        """
        for file in self.table.files:
            rows: Iterator[Row | Fault] = self.table.read(file)
            if file.split is None:
                rows = compress(rows, self._is_in(split))
            elif file.split != split:
                continue
            for row in rows:
                if isinstance(row, Fault):
                    raise file.changed()
                yield row

    def count(self, split: SplitName) -> int:
        return int(np.count_nonzero(self._is_in(split)))

    def summary(self) -> DataSummary:
        columns: dict[str, str] = {str(k): name for k, name in self.table.columns.items()}
        return DataSummary(
            sha256=self.sha256, labels=self.labels, rows={**self._sizes()}, columns=columns
        )

    def event(self) -> DataEvent:
        """What the job's owner is told as soon as the data is read."""
        return DataEvent(columns={**self.table.columns}, rows=self._sizes())

    def _sizes(self) -> dict[SplitName, int]:
        return {name: self.count(name) for name in SPLITS}

    def _is_in(self, split: SplitName) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.split_of == SPLITS.index(split)
        return found


class Survey:
    """What one pass over a table leaves of each row: a few numbers, never its text."""

    def __init__(self, table: Table) -> None:
        self.classes: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.fault_count = 0
        self._class_of, self._split_of, self._digests = array("i"), array("b"), bytearray()
        self._target = table.target
        self._roles = [role for role in ROLES if role in table.columns]
        for file in table.files:
            for row in table.read(file):
                if isinstance(row, Fault):
                    self._add_fault(row)
                else:
                    split = file.split or row.split
                    self._add(row, UNUSED if split is None else SPLITS.index(split))

    @property
    def class_of(self) -> NDArray[np.int32]:
        return np.asarray(self._class_of, np.int32)

    @property
    def split_of(self) -> NDArray[np.int8]:
        return np.asarray(self._split_of, np.int8)

    def sha256(self, split_of: NDArray[np.int8]) -> str:
        digests = np.frombuffer(self._digests, np.uint8).reshape(-1, DIGEST_BYTES)
        whole = hashlib.sha256()
        for number, name in enumerate(SPLITS):
            whole.update(f"{name}\n".encode())
            whole.update(digests[split_of == number].tobytes())
        return whole.hexdigest()

    def _add(self, row: Row, split: int) -> None:
        label = row.cells["label"] if self._target == "class" else ""
        if len(self.classes) == LABEL_LIMIT and label not in self.classes:
            raise InvalidDatasetError(
                f"{row.place}: more than {LABEL_LIMIT:,} different labels up to here.",
                field="dataset.columns.label",
                remedy="Name the column that holds the class.",
            )
        self._class_of.append(self.classes.setdefault(label, len(self.classes)))
        self._split_of.append(split)
        self._digests += _digest([row.cells[role] for role in self._roles])

    def _add_fault(self, fault: Fault) -> None:
        self.fault_count += 1
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(fault)


def load_splits(
    dataset: Dataset,
    source: DataSource,
    *,
    columns: Mapping[Role, str],
    target: Target,
    seed: int,
) -> SplitData:
    """Read a dataset once and decide which of its rows are trained, validated and tested on.

    Args:
        dataset: The sizes of the splits; a folder brings its own.
        source: What the dataset's reference resolved to.
        columns: The column of each role that the task needs.
        target: What the column of the role ``label`` holds.
        seed: Of the shuffle that carves the splits.

    Raises:
        InvalidDatasetError: With the field or the rows at fault.
    """
    files = _open(dataset, source.path)
    table = Table(
        files=files,
        columns=_resolved(columns, dataset, files),
        target=target,
        where=source.where,
        split_column=dataset.split_column,
    )
    survey = Survey(table)
    _refuse_faults(survey.faults, survey.fault_count)
    given = source.path.is_dir() or dataset.split_column is not None
    if dataset.split_column is None:
        _refuse_empty(files, survey.split_of)
    else:
        _refuse_unsplit(dataset.split_column, survey.split_of)
    split_of = survey.split_of if given else _carve(survey, dataset.splits or Splits(), seed)
    labels = _labels(survey, split_of) if target == "class" else ()
    data = SplitData(table=table, labels=labels, split_of=split_of, sha256=survey.sha256(split_of))
    if target == "class":
        _refuse_untrained(data, survey)
    return data


def _open(dataset: Dataset, path: Path) -> tuple[DataFile, ...]:
    if not path.is_dir():
        return (DataFile.of(path),)
    said = {"splits": dataset.splits, "split_column": dataset.split_column}
    for name, value in said.items():
        if value is not None:
            raise InvalidDatasetError(
                f"{path.name} is a folder, which brings its own splits.",
                field=f"dataset.{name}",
                remedy=f"Leave dataset.{name} out.",
            )
    return tuple(
        DataFile.of(file, split) for split, files in split_files(path).items() for file in files
    )


def _resolved(
    columns: Mapping[Role, str], dataset: Dataset, files: Sequence[DataFile]
) -> Mapping[Role, str]:
    """The columns, with what the spec does not say looked for in the first record there is."""
    given = dataset.columns.model_dump(exclude_none=True)
    said = {role for role, name in columns.items() if role in given or name != role}
    for file in files:
        for _, record in file.records():
            return resolve(columns, [name for name in record if isinstance(name, str)], said=said)
    return columns


def _refuse_unsplit(column: str, split_of: NDArray[np.int8]) -> None:
    for split in ("train", "test"):
        if SPLITS.index(split) not in split_of:
            raise InvalidDatasetError(
                f"No row's column {column!r} says {split}.",
                field="dataset.split_column",
                remedy="It needs rows to train on and rows to test on.",
            )


def _digest(cells: Sequence[str]) -> bytes:
    return hashlib.blake2b(json.dumps(cells).encode(), digest_size=DIGEST_BYTES).digest()


def _refuse_faults(faults: Sequence[Fault], count: int) -> None:
    if not faults:
        return
    shown = [f"{fault.place}: {fault.reason}" for fault in faults]
    message, remedy = f"{shown[0]}.", "Fill the cell or remove the row."
    if count > 1:
        more = f"; and {count - len(shown):,} more" if count > len(shown) else ""
        message = f"{count:,} rows cannot be used: {'; '.join(shown)}{more}."
        remedy = "Fill the cells or remove the rows."
    raise InvalidDatasetError(message, field=f"dataset.columns.{faults[0].role}", remedy=remedy)


def _refuse_empty(files: Sequence[DataFile], split_of: NDArray[np.int8]) -> None:
    # One shard may be empty, or hold nothing of the part that is read; not all of a split.
    filled = {None if number == UNUSED else SPLITS[number] for number in np.unique(split_of)}
    for file in files:
        if file.split not in filled:
            raise InvalidDatasetError(
                f"{file.path.name} has no rows.", field="dataset.ref", remedy="Fill it."
            )


def _carve(survey: Survey, splits: Splits, seed: int) -> NDArray[np.int8]:
    count = len(survey.class_of)
    sizes = [
        size if isinstance(size, int) else max(1, int(size * count))
        for size in (splits.train, splits.validation, splits.test)
    ]
    if sum(sizes) > count:
        raise InvalidDatasetError(
            f"The splits ask for {sum(sizes)} rows, and the dataset has {count}.",
            field="dataset.splits",
            remedy="Ask for fewer rows, or for shares that sum to at most 1.",
        )
    # By name, so that the class which happens to come first in the file has no say.
    ranks = {label: rank for rank, label in enumerate(sorted(survey.classes))}
    rank_of = np.array([ranks[label] for label in survey.classes])
    order = stratified(rank_of[survey.class_of], seed)
    split_of = np.full(count, UNUSED, np.int8)
    split_of[order[: sum(sizes)]] = np.repeat(range(len(SPLITS)), sizes)
    return split_of


def _labels(survey: Survey, split_of: NDArray[np.int8]) -> tuple[str, ...]:
    names = list(survey.classes)
    trained = survey.class_of[split_of == SPLITS.index("train")]
    seen = [names[number] for number in np.unique(trained)]
    if len(seen) == 1:
        raise InvalidDatasetError(
            f"The training split has the one label {seen[0]!r}: nothing to tell apart.",
            field="dataset.columns.label",
            remedy="It needs two labels at least.",
        )
    numeric = all(WHOLE_NUMBER.fullmatch(label) for label in seen)
    return tuple(sorted(seen, key=int if numeric else str))


def _refuse_untrained(data: SplitData, survey: Survey) -> None:
    trained = [survey.classes[label] for label in data.labels]
    untrained = ~np.isin(survey.class_of, trained) & (data.split_of != UNUSED)
    # The place of a row is not kept: the first one is looked for in the file once more.
    for number in np.unique(data.split_of[untrained]):
        for row in data.rows(SPLITS[number]):
            if row.cells["label"] not in data.labels:
                raise InvalidDatasetError(
                    f"The label {row.cells['label']!r} ({row.place}) never occurs in training.",
                    field="dataset.columns.label",
                    remedy="Add training rows with it, remove it, or enlarge the training split.",
                )
