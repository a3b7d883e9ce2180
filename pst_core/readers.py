"""Files become records, one at a time: CSV, TSV, JSON lines, Parquet and plain text.

What a record must hold, and which split it belongs to, is decided in data.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pst_core.dataset_profile import Dialect, ReadLimits
from pst_core.dataset_spec import SplitName
from pst_core.errors import InvalidDatasetError
from pst_core.json_lines import json_records
from pst_core.lines import read_lines
from pst_core.parquet_rows import parquet_records
from pst_core.roles import SPLIT_NAMES
from pst_core.separated import CSV_DIALECTS, TSV_DIALECTS, separated_records, sniff

Record = Mapping[object, object]
Placed = Iterator[tuple[str, Record]]

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")
DIALECTS = {".csv": CSV_DIALECTS, ".tsv": TSV_DIALECTS}
UNLIMITED = ReadLimits()
# A hub names its shards train-00000-of-00002.parquet, older ones with a hash before the suffix.
SPLIT_FILE = re.compile(
    r"(?P<name>[a-z]+)(-(?P<number>\d+)-of-(?P<count>\d+)(-[0-9a-f]+)?)?\.(?P<suffix>.+)"
)


def records(path: Path, limits: ReadLimits = UNLIMITED) -> Placed:
    """The records of a file, each with its place, such as ``train.csv, line 7``.

    The line is the one that the record ends in; Parquet has rows instead. Memory stays flat.

    Raises:
        InvalidDatasetError: The file is of another kind, broken or beyond the limits; with the
            line where one is.
    """
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return _limited(parquet_records(path, limits), path, limits)
    if suffix in SUFFIXES:
        return _limited(_text_records(path, suffix, limits), path, limits)
    raise InvalidDatasetError(
        f"{path.name} is none of {', '.join(SUFFIXES)}.",
        field="dataset.ref",
        remedy="Convert it to one of them; those of text may be compressed (data.csv.gz).",
    )


def suffix_of(path: Path) -> str:
    """What kind of file it says it is, without the ``.gz`` of a text that is compressed."""
    name = Path(path.name.lower())
    inner = Path(name.stem).suffix
    return inner if name.suffix == ".gz" and inner != ".parquet" else name.suffix


def dialect_of(path: Path, limits: ReadLimits = UNLIMITED) -> Dialect | None:
    """What keeps the cells of a file apart; None where it has no cells."""
    dialects = DIALECTS.get(suffix_of(path))
    return sniff(read_lines(path, limits), dialects)[0] if dialects else None


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


def _limited(found: Placed, path: Path, limits: ReadLimits) -> Placed:
    for number, (place, record) in enumerate(found, start=1):
        if number > limits.rows:
            raise InvalidDatasetError(
                f"{place}: {path.name} has more than {limits.rows:,} rows.",
                field="dataset.ref",
                remedy="Keep those that are needed.",
            )
        yield place, record


def _text_records(path: Path, suffix: str, limits: ReadLimits) -> Placed:
    lines = read_lines(path, limits)
    if suffix in DIALECTS:
        dialect, lines = sniff(lines, DIALECTS[suffix])
        return separated_records(lines, path.name, dialect, limits)
    if suffix == ".txt":
        return _line_records(lines, path.name)
    return json_records(lines, path.name, limits)


def _line_records(lines: Iterator[str], name: str) -> Placed:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}, line {number}", {"text": line.rstrip("\r\n")}
