"""Rows of text and label: read, split, stratified, hashed. Tokens and batches: batches.py."""

import csv
import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

from pst_core.errors import InvalidDatasetError
from pst_core.references import DataSource
from pst_core.report import DataSummary
from pst_core.spec import Columns, Dataset, Splits, is_storable

Record = Mapping[object, object]
NUMBER = re.compile(r"-?[0-9]{1,18}")
FIELD_LIMIT = 1_000_000  # characters; a longer cell is a broken quote, not a text


@dataclass(frozen=True, slots=True)
class Row:
    """One example and the place it came from, such as ``train.csv, line 7``."""

    text: str
    label: str
    place: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitData:
    """The examples of each split; a label's number is its position in ``labels``."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]
    labels: tuple[str, ...]

    def named(self) -> dict[str, tuple[Row, ...]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def summary(self) -> DataSummary:
        digest = hashlib.sha256()
        for name, rows in self.named().items():
            digest.update(f"{name}\n".encode())
            for row in rows:
                digest.update(json.dumps([row.text, row.label]).encode() + b"\n")
        counts = {name: len(rows) for name, rows in self.named().items()}
        return DataSummary(sha256=digest.hexdigest(), labels=self.labels, rows=counts)


def load_splits(dataset: Dataset, source: DataSource, *, seed: int) -> SplitData:
    """Read a dataset and cut it into train, validation and test.

    Args:
        dataset: Columns and sizes.
        source: What its reference resolved to.
        seed: Of the shuffle that carves the splits; a folder's own splits keep their order.

    Raises:
        InvalidDatasetError: With the field or the row at fault.
    """
    if source.path.is_dir():
        splits = _given_splits(dataset, source)
    else:
        rows = _read(source.path, dataset.columns, source.where)
        splits = _carve(rows, dataset.splits or Splits(), seed)
    for name in ("train", "test"):
        if not splits[name]:
            raise InvalidDatasetError(
                f"The {name} split of {source.path.name} is empty.",
                field="dataset",
                remedy="It needs at least one row.",
            )
    return SplitData(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=_labels(splits),
    )


def _given_splits(dataset: Dataset, source: DataSource) -> dict[str, tuple[Row, ...]]:
    if dataset.splits is not None:
        raise InvalidDatasetError(
            f"{source.path.name} is a folder, which brings its own splits.",
            field="dataset.splits",
            remedy="Leave dataset.splits out.",
        )
    splits: dict[str, tuple[Row, ...]] = {}
    for name in ("train", "validation", "test"):
        found = [path for path in sorted(source.path.glob(f"{name}.*")) if path.is_file()]
        if not found and name == "validation":
            splits[name] = ()
        elif len(found) != 1:
            there = ", ".join(path.name for path in found) or "none"
            raise InvalidDatasetError(
                f"{source.path.name} needs one {name}.csv or {name}.jsonl, and has {there}.",
                field="dataset.ref",
                remedy="A folder has one file for each of train, test and, if wanted, validation.",
            )
        else:
            splits[name] = tuple(_read(found[0], dataset.columns, source.where))
    return splits


def _carve(rows: Sequence[Row], splits: Splits, seed: int) -> dict[str, tuple[Row, ...]]:
    sizes = {
        name: size if isinstance(size, int) else max(1, int(size * len(rows)))
        for name, size in splits.model_dump().items()
    }
    if sum(sizes.values()) > len(rows):
        raise InvalidDatasetError(
            f"The splits ask for {sum(sizes.values())} rows, and the dataset has {len(rows)}.",
            field="dataset.splits",
            remedy="Ask for fewer rows, or for shares that sum to at most 1.",
        )
    queue = iter(stratified(rows, seed))
    return {name: tuple(islice(queue, size)) for name, size in sizes.items()}


def stratified(rows: Sequence[Row], seed: int) -> list[Row]:
    """A seeded shuffle in which every run of rows has nearly the label shares of the whole.

    Each label's rows are shuffled and spread evenly over [0, 1): the j-th of n lies at (j + ½)/n.
    """
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_label[row.label].append(row)
    generator = random.Random(seed)
    placed: list[tuple[float, int, Row]] = []
    for rank, label in enumerate(sorted(by_label)):
        group = by_label[label]
        generator.shuffle(group)
        placed += [((j + 0.5) / len(group), rank, row) for j, row in enumerate(group)]
    placed.sort(key=lambda item: item[:2])
    return [row for _, _, row in placed]


def _labels(splits: Mapping[str, tuple[Row, ...]]) -> tuple[str, ...]:
    seen = Counter(row.label for row in splits["train"])
    for row in chain(splits["validation"], splits["test"]):
        if row.label not in seen:
            raise InvalidDatasetError(
                f"The label {row.label!r} ({row.place}) never occurs in the training split.",
                field="dataset.columns.label",
                remedy="Add training rows with it, remove it, or make the training split larger.",
            )
    if len(seen) < 2:  # noqa: PLR2004 -- two classes are the least there is to tell apart
        raise InvalidDatasetError(
            f"The training split has the one label {next(iter(seen))!r}: nothing to tell apart.",
            field="dataset.columns.label",
            remedy="It needs two labels at least.",
        )
    numeric = all(NUMBER.fullmatch(label) for label in seen)
    return tuple(sorted(seen, key=int if numeric else str))


def _read(path: Path, columns: Columns, where: tuple[str, str] | None) -> list[Row]:
    readers: dict[str, Callable[[TextIO, str], Iterator[tuple[str, Record]]]] = {
        ".csv": _csv_records,
        ".jsonl": _jsonl_records,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidDatasetError(
            f"{path.name} is neither .csv nor .jsonl.",
            field="dataset.ref",
            remedy="Convert it to one of them.",
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                _row(record, columns, place)
                for place, record in reader(file, path.name)
                if where is None or record.get(where[0]) == where[1]
            ]
    except UnicodeDecodeError as error:
        raise InvalidDatasetError(
            f"{path.name}, line {_undecodable_line(path)}: not UTF-8 ({error.reason}).",
            field="dataset.ref",
            remedy="Save it as UTF-8.",
        ) from error
    if not rows:
        raise InvalidDatasetError(
            f"{path.name} has no rows.", field="dataset.ref", remedy="Fill it."
        )
    return rows


def _undecodable_line(path: Path) -> int:
    # The decoder reads in chunks and does not know where in the file it is.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.decode("utf-8", errors="ignore").encode() != line:
                return number
    return 1


def _csv_records(file: TextIO, name: str) -> Iterator[tuple[str, Record]]:
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.DictReader(file, strict=True)
    try:
        for record in reader:
            yield f"{name}, line {reader.line_num}", record
    except csv.Error as error:
        raise InvalidDatasetError(
            f"{name}, line {reader.reader.line_num}: {error}.",
            field="dataset.ref",
            remedy="Check the quotes there.",
        ) from error


def _jsonl_records(file: TextIO, name: str) -> Iterator[tuple[str, Record]]:
    for number, line in enumerate(file, start=1):
        place = f"{name}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidDatasetError(
                f"{place} is not JSON: {error}.", field="dataset.ref"
            ) from error
        if not isinstance(record, dict):
            raise InvalidDatasetError(f"{place} is not a JSON object.", field="dataset.ref")
        yield place, record


def _row(record: Record, columns: Columns, place: str) -> Row:
    cells = {}
    for role, column in columns.model_dump().items():
        if column not in record:
            there = ", ".join(str(name) for name in record if name is not None)
            raise InvalidDatasetError(
                f"{place} has no column {column!r}.",
                field=f"dataset.columns.{role}",
                remedy=f"Its columns are: {there}.",
            )
        value = record[column]
        # JSON's true and 1.0 have no one spelling as a class name.
        usable = isinstance(value, str | int) and not isinstance(value, bool)
        if not usable or not str(value).strip() or not is_storable(str(value)):
            raise InvalidDatasetError(
                f"{place}: the column {column!r} holds no {role}.",
                field=f"dataset.columns.{role}",
                remedy="Fill the cell or remove the row.",
            )
        cells[role] = str(value)
    return Row(cells["text"], cells["label"], place)
