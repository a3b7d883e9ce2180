"""Datasets for tests, written and loaded in a line."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from pst_core.data import SplitData, load_splits
from pst_core.dataset_spec import Dataset, Role
from pst_core.readers import SPLITS
from pst_core.references import DataSource
from pst_core.rows import Target

TEXT_AND_LABEL: Mapping[Role, str] = {"text": "text", "label": "label"}


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], *header: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header or ("text", "label"), *rows])
    return path


def write_rows(path: Path, count: int = 100) -> Path:
    """Three texts of label `b` for each of label `a`, all different."""
    return write_csv(path, [(f"text {number}", "abbb"[number % 4]) for number in range(count)])


def load(
    path: Path,
    *,
    splits: Mapping[str, float] | None = None,
    columns: Mapping[Role, str] = TEXT_AND_LABEL,
    target: Target = "class",
    where: tuple[str, str] | None = None,
    split_column: str | None = None,
    seed: int = 0,
) -> SplitData:
    said = {"ref": "file:data", "splits": splits, "split_column": split_column}
    dataset = Dataset.model_validate(said)
    source = DataSource(path=path, where=where)
    return load_splits(dataset, source, columns=columns, target=target, seed=seed)


def write_folder(folder: Path) -> Path:
    """Six rows of the labels 0 and 1 for each split."""
    folder.mkdir()
    for name in SPLITS:
        rows = [(f"{name} {number}", str(number % 2)) for number in range(6)]
        write_csv(folder / f"{name}.csv", rows)
    return folder
