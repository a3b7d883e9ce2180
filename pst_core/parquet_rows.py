"""Parquet: its footer is judged before anything is decoded, then its rows come a few at a time."""

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pst_core.dataset_profile import ReadLimits
from pst_core.errors import InvalidDatasetError
from pst_core.parquet_footer import PARTS_LIMIT, has_too_many_parts

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

MAGIC = b"PAR1"
TAIL = 8  # bytes: the footer's length, and the magic
FOOTER_LIMIT = 8 * 1024**2  # bytes; it is parsed as a whole
MAX_DEPTH = 32
FEWER = "Write it with fewer columns or larger row groups."
ROWS = 128  # decoded together
BATCH_BYTES = 8 * 1024**2  # decoded together, where the rows are long
BUFFER = 256 * 1024  # bytes


def parquet_records(
    path: Path, limits: ReadLimits
) -> Iterator[tuple[str, Mapping[object, object]]]:
    """The records, each with its place; memory stays flat.

    Raises:
        InvalidDatasetError: It is broken, with the last row that could be read; or too large.
    """
    # pyarrow ships no types; and only who reads Parquet shall wait for its import.
    from pyarrow import ArrowException, parquet

    _check_footer(path)
    number = 0
    try:
        # By default a whole column of a row group, often of the whole file, is read at once.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            rows = _check_claims(file, path.name, limits)
            for batch in file.iter_batches(batch_size=rows):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", record
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise _refusal(
            f"{path.name} cannot be read as Parquet beyond row {number}: {str(error).rstrip('.')}.",
            "Write or download it again.",
        ) from error


def _check_footer(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - TAIL))
        tail = file.read(TAIL)
    if len(tail) < TAIL or not tail.endswith(MAGIC):
        raise _refusal(
            f"{path.name} cannot be read as Parquet: it does not end as such a file does.",
            "Write or download it again.",
        )
    (length,) = struct.unpack("<I", tail[:4])
    if length > size - TAIL:
        raise _refusal(
            f"{path.name} cannot be read as Parquet: a part of it is missing.",
            "Write or download it again.",
        )
    if length > FOOTER_LIMIT:
        raise _refusal(
            f"{path.name} has a footer of {length:,} bytes, and {FOOTER_LIMIT:,} is the most.",
            FEWER,
        )
    try:
        too_many = has_too_many_parts(_footer(path, length))
    except ValueError as error:
        raise _refusal(
            f"{path.name} cannot be read as Parquet: its footer is broken ({error}).",
            "Write or download it again.",
        ) from error
    if too_many:
        raise _refusal(
            f"{path.name} has a footer of more than {PARTS_LIMIT:,} parts, such as columns and "
            "row groups.",
            FEWER,
        )


def _footer(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-TAIL - length, os.SEEK_END)
        return file.read(length)


def _check_claims(file: "ParquetFile", name: str, limits: ReadLimits) -> int:
    """Refuse what would take too much; else how many rows to decode together."""
    said, names = file.metadata, file.schema_arrow.names
    _at_most(said.num_columns, limits.columns, f"{name} has {{}} columns")
    _at_most(said.num_rows, limits.rows, f"{name} has {{}} rows")
    depth = max(
        (said.schema.column(i).max_definition_level for i in range(said.num_columns)), default=0
    )
    _at_most(depth, MAX_DEPTH, f"{name} nests its values {{}} deep")
    sizes = [said.row_group(i).total_byte_size for i in range(said.num_row_groups)]
    _at_most(sum(sizes), limits.bytes, f"{name} has {{}} bytes once it is decompressed")
    if len({*names}) < len(names):
        raise _refusal(f"{name} has two columns of one name.", "Rename one of them.")
    bytes_a_row = max(1, sum(sizes) // max(1, said.num_rows))
    return int(min(ROWS, max(1, BATCH_BYTES // bytes_a_row)))


def _at_most(found: int, limit: int, message: str) -> None:
    if found > limit:
        raise _refusal(
            f"{message.format(f'{found:,}')}, and {limit:,} is the most.", "Keep what is needed."
        )


def _refusal(message: str, remedy: str) -> InvalidDatasetError:
    return InvalidDatasetError(message, field="dataset.ref", remedy=remedy)
