"""What is known of a file of rows before anything is trained on it: bounds, and a profile.

Free of torch. How a profile is made stands in profiling.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from pst_core.dataset_spec import Role
from pst_core.fields import Count, Flag, Strict
from pst_core.spec import Task

FileKind = Literal["csv", "tsv", "jsonl", "parquet"]
ColumnType = Literal["text", "integer", "number", "boolean", "nested", "empty"]
Bound = Annotated[int, Field(ge=1, strict=True)]
NAME_SHOWN = 200  # characters of a column's name
CELL_SHOWN = 200  # characters of a cell, in the preview and among the values
VALUES_SHOWN = 64  # different values of one column; a label with more is not told of

ColumnName = Annotated[str, Field(max_length=NAME_SHOWN)]
Cell = Annotated[str, Field(max_length=CELL_SHOWN)]


class ReadLimits(Strict):
    """How much of a file is read before it is refused."""

    bytes: Bound = 2**36
    """Once it is decompressed; of Parquet, what its footer says."""
    rows: Bound = 1_000_000_000
    columns: Bound = 2_000


class ProfileLimits(ReadLimits):
    bytes: Bound = 2**32
    rows: Bound = 20_000_000
    columns: Bound = 1_000
    preview_rows: Annotated[int, Field(ge=0, le=100, strict=True)] = 5


class Dialect(Strict):
    """How the cells of a CSV or TSV file are kept apart."""

    delimiter: Literal[",", ";", "\t", "|"]
    escape: Literal["doubled", "backslash"]
    """How a quote stands inside of quotes."""


class Lengths(Strict):
    """Of the cells that are not empty, in characters."""

    minimum: Count
    median: Count
    """Exact below 1,024, else up to 2 % too low."""
    maximum: Count
    overlong: Count
    """How many have more than 10,000: the tokenizer cuts most of it off."""


class ValueCount(Strict):
    value: Cell
    rows: Count


class ColumnProfile(Strict):
    name: ColumnName
    type: ColumnType
    empty: Count
    """How many rows have nothing there."""
    whitespace: Count
    """How many of the empty ones have white space."""
    lengths: Lengths | None
    """Null: it holds no text."""
    values: tuple[ValueCount, ...] | None
    """The most frequent first; null: too many different ones, or too long."""


class Duplicates(Strict):
    rows: Count
    """How many rows repeat an earlier one in every column."""
    texts_with_several_labels: Count | None
    """How many different texts have more than one label; null: which columns these are is not
    clear from their names."""
    texts_in_several_splits: Count | None
    """How many different texts lie in more than one split; null: there is no column for it."""
    capped: Flag
    """Whether only the first rows were compared, because there are too many."""


class Guess(Strict):
    """A task that the data suits, and the columns that it would read."""

    task: Task
    columns: dict[Role, ColumnName]


class DatasetProfile(Strict):
    format: FileKind
    gzip: Flag
    encoding: Literal["utf-8", "utf-16"] | None
    """Null: Parquet says itself what its texts are."""
    dialect: Dialect | None
    rows: Count
    columns: tuple[ColumnProfile, ...]
    duplicates: Duplicates
    split_column: ColumnName | None
    """The column that says which split a row belongs to, by its name and values."""
    preview: tuple[dict[str, Cell | None], ...]
    """The first rows, their cells cut."""
    guesses: tuple[Guess, ...]
    """The likeliest first."""
