"""What a spec says of its data: where it lies, what its columns are, how it is split.

Free of torch. Which columns a task needs stands in spec.py; data.py reads and splits.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from pst_core.fields import Strict, Text
from pst_core.references import parse_reference

Role = Literal["text", "pair", "label", "prompt", "completion"]
SplitName = Literal["train", "validation", "test"]


def _well_formed(text: str) -> str:
    parse_reference(text)
    return text


ReferenceText = Annotated[Text, AfterValidator(_well_formed)]


class Columns(Strict):
    """Which column plays which role; one left out has its role's name, GLUE's or a usual one."""

    text: Text | None = None
    """The text to classify, to rate, or to learn to continue."""
    pair: Text | None = None
    """The second text of a pair, where the task is about two."""
    label: Text | None = None
    """The class, as a name or a number; for text-regression, a number."""
    prompt: Text | None = None
    """What is given, for data-to-text."""
    completion: Text | None = None
    """What is to be written; several rows with one prompt give it several references."""


SplitSize = (
    Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
    | Annotated[float, Field(gt=0, lt=1, strict=True)]
)


class Splits(Strict):
    """How many rows go where: a share of all (0.1) or a number (500), stratified by label."""

    train: SplitSize = 0.8
    validation: SplitSize = 0.1
    test: SplitSize = 0.1


class Dataset(Strict):
    ref: ReferenceText
    """`ds_…`, an uploaded one; `hub:ORG/NAME[/FOLDER][@REVISION]`, `pkg:NAME[/PART]`, or
    `file:PATH` of a CSV, TSV, JSON lines, Parquet or text file, or of a folder of train.*, test.*
    and perhaps validation.*."""
    columns: Columns = Columns()
    splits: Splits | None = None
    """Carved from the data by the job's seed; a folder brings its own. Default 80/10/10."""
    split_column: Text | None = None
    """The column that says `train`, `validation` (or `valid`, `dev`) or `test` of each row."""

    @field_validator("split_column")
    @classmethod
    def _splits_are_said_once(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("splits") is not None:
            raise ValueError("the splits are carved or read from a column: leave one of both out")
        return value
