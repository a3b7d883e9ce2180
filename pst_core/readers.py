"""Files become records, one at a time: CSV, TSV, JSON lines, Parquet and plain text.

What a record must hold, and which split it belongs to, is decided in data.py.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TextIO, get_args

from pst_core.errors import InvalidDatasetError

SplitName = Literal["train", "validation", "test"]
Record = Mapping[object, object]
Placed = Iterator[tuple[str, Record]]

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")
FIELD_LIMIT = 1_000_000  # characters; a longer cell is a broken quote, not a text
LINE_LIMIT = 16_000_000  # characters; a file without line ends must not be read as one row
PARQUET_ROWS = 128  # rows decoded together
PARQUET_BUFFER = 256 * 1024  # bytes
SPLIT_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
}
# A hub names its shards train-00000-of-00002.parquet, older ones with a hash before the suffix.
SPLIT_FILE = re.compile(
    r"(?P<name>[a-z]+)(-(?P<number>\d+)-of-(?P<count>\d+)(-[0-9a-f]+)?)?\.(?P<suffix>.+)"
)


def records(path: Path) -> Placed:
    """The records of a file, each with its place, such as ``train.csv, line 7``.

    The line is the one that the record ends in; Parquet has rows instead. Memory stays flat.

    Raises:
        InvalidDatasetError: The file is of another kind, or broken; with the line where one is.
    """
    text_formats: dict[str, Callable[[Iterator[str], str], Placed]] = {
        ".csv": _csv_records,
        ".tsv": _tsv_records,
        ".jsonl": _json_records,
        ".json": _json_records,
        ".txt": _line_records,
    }
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_records(path)
    if suffix in text_formats:
        return _text_records(path, text_formats[suffix])
    raise InvalidDatasetError(
        f"{path.name} is none of {', '.join(SUFFIXES)}.",
        field="dataset.ref",
        remedy="Convert it to one of them.",
    )


def split_files(folder: Path) -> dict[SplitName, list[Path]]:
    """The files of each split of a folder, in name order; validation may have none.

    Raises:
        InvalidDatasetError: A split is missing, lacks a shard, or has files that contradict.
    """
    places = [place for place in (folder, folder / "data") if place.is_dir()]
    there = [path for place in places for path in sorted(place.iterdir()) if path.is_file()]
    return {split: _files_of(split, there, folder.name) for split in SPLITS}


def _files_of(split: SplitName, there: Sequence[Path], folder: str) -> list[Path]:
    named = [(path, SPLIT_FILE.fullmatch(path.name)) for path in there]
    found = {path: match for path, match in named if match and match["name"] in SPLIT_NAMES[split]}
    if not (_are_one_table(found) or (split == "validation" and not found)):
        names = ", ".join(path.name for path in found) or "none"
        raise InvalidDatasetError(
            f"{folder} needs one {split}.csv ({', '.join(SUFFIXES[1:])}) or all shards "
            f"{split}-00000-of-0000N.parquet of one, and has {names}.",
            field="dataset.ref",
            remedy="A folder has one file for each of train, test and, if wanted, validation.",
        )
    return list(found)


def _are_one_table(found: Mapping[Path, re.Match[str]]) -> bool:
    tables = {(path.parent, m["name"], m["count"], m["suffix"]) for path, m in found.items()}
    if len(tables) != 1:
        return False
    ((_, _, count, _),) = tables
    if count is None:
        return True
    return [int(match["number"]) for match in found.values()] == list(range(int(count)))


def _text_records(path: Path, parse: Callable[[Iterator[str], str], Placed]) -> Placed:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from parse(_lines(file, path.name), path.name)
    except UnicodeDecodeError as error:
        raise InvalidDatasetError(
            f"{path.name}, line {_undecodable_line(path)}: not UTF-8 ({error.reason}).",
            field="dataset.ref",
            remedy="Save it as UTF-8.",
        ) from error


def _lines(file: TextIO, name: str) -> Iterator[str]:
    number = 0
    while line := file.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise InvalidDatasetError(
                f"{name}, line {number} is longer than {LINE_LIMIT:,} characters.",
                field="dataset.ref",
                remedy="Break it into rows.",
            )
        yield line


def _undecodable_line(path: Path) -> int:
    # The decoder reads in chunks and does not know where in the file it is.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.decode("utf-8", errors="ignore").encode() != line:
                return number
    return 1


def _csv_records(lines: Iterator[str], name: str, *, delimiter: str = ",") -> Placed:
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        for record in reader:
            yield f"{name}, line {reader.line_num}", record
    except csv.Error as error:
        raise InvalidDatasetError(
            f"{name}, line {reader.reader.line_num}: {error}.",
            field="dataset.ref",
            remedy="Check the quotes there.",
        ) from error


def _tsv_records(lines: Iterator[str], name: str) -> Placed:
    return _csv_records(lines, name, delimiter="\t")


def _json_records(lines: Iterator[str], name: str) -> Placed:
    remedy = "Write one JSON object a line."
    for number, line in enumerate(lines, start=1):
        place = f"{name}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidDatasetError(
                f"{place} is not JSON: {error}.", field="dataset.ref", remedy=remedy
            ) from error
        if not isinstance(record, dict):
            raise InvalidDatasetError(
                f"{place} is not a JSON object.", field="dataset.ref", remedy=remedy
            )
        yield place, record


def _line_records(lines: Iterator[str], name: str) -> Placed:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}, line {number}", {"text": line.rstrip("\r\n")}


def _parquet_records(path: Path) -> Placed:
    # pyarrow ships no types; and only who reads Parquet shall wait for its import.
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        # By default a whole column of a row group, often of the whole file, is read at once.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", record
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidDatasetError(
            f"{path.name} cannot be read as Parquet beyond row {number}: {str(error).rstrip('.')}.",
            field="dataset.ref",
            remedy="Write or download it again.",
        ) from error
