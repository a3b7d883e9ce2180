"""A dataset that cannot be used is refused with the field or the rows at fault."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from pst_core import data
from pst_core.dataset_spec import Dataset
from pst_core.errors import InvalidDatasetError
from pst_core.readers import SPLITS
from pst_core.rows import Target
from tests.pst_core.tables import load, write_csv, write_folder, write_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "splits")


def refusal(
    path: Path,
    *,
    splits: Mapping[str, float] | None = None,
    target: Target = "class",
    split_column: str | None = None,
) -> InvalidDatasetError:
    with pytest.raises(InvalidDatasetError) as caught:
        load(path, splits=splits, target=target, split_column=split_column)
    assert caught.value.remedy
    return caught.value


def test_a_folder_with_sizes_for_its_splits_is_refused(folder: Path) -> None:
    assert refusal(folder, splits={}).field == "dataset.splits"


def test_the_labels_of_a_folder_come_from_its_training_split(folder: Path) -> None:
    write_csv(folder / "test.csv", [("x", "0"), ("y", "-1")])
    error = refusal(folder)
    assert error.field == "dataset.columns.label"
    assert "'-1' (test.csv, line 3)" in error.message


@pytest.mark.parametrize("content", [b"", b"text,label\n", b"\n\n"])
def test_a_file_without_rows_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    error = refusal(path)
    assert error.field == "dataset.ref"
    assert "data.csv has no rows" in error.message


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_of_a_folder_without_rows_is_refused(folder: Path, split: str) -> None:
    write_csv(folder / f"{split}.csv", [])
    assert f"{split}.csv has no rows" in refusal(folder).message


def test_a_part_without_rows_is_refused(path: Path) -> None:
    with pytest.raises(InvalidDatasetError, match="has no rows"):
        load(path, where=("source", "absent"))


def test_one_bad_row_is_refused_with_its_place_and_column(path: Path) -> None:
    write_csv(path, [("fine", "1"), ("", "1"), ("good", "0")])
    error = refusal(path)
    assert error.field == "dataset.columns.text"
    assert error.message == "data.csv, line 3: the column 'text' holds no text."


def test_all_bad_rows_are_counted_and_the_first_five_named(path: Path) -> None:
    write_csv(path, [("fine", "") if n % 2 else ("", "1") for n in range(1200)])
    error = refusal(path)
    faults = [
        f"data.csv, line {line}: the column '{role}' holds no {role}"
        for line, role in enumerate(("text", "label", "text", "label", "text"), start=2)
    ]
    assert error.field == "dataset.columns.text"
    assert error.message == f"1,200 rows cannot be used: {'; '.join(faults)}; and 1,195 more."


def test_bad_rows_are_counted_across_the_files_of_a_folder(folder: Path) -> None:
    write_csv(folder / "train.csv", [("a", ""), ("b", "1")])
    write_csv(folder / "test.csv", [("a", "1"), ("b", " ")])
    message = refusal(folder).message
    assert message.startswith("2 rows cannot be used: train.csv, line 2: ")
    assert message.endswith("; test.csv, line 3: the column 'label' holds no label.")


def test_a_value_to_regress_to_must_be_a_number(path: Path) -> None:
    error = refusal(path, target="number")
    assert error.field == "dataset.columns.label"
    assert error.message.startswith("100 rows cannot be used: data.csv, line 2: ")


def test_one_label_only_is_refused_with_it(path: Path) -> None:
    write_csv(path, [(f"text {number}", "same") for number in range(40)])
    error = refusal(path)
    assert error.field == "dataset.columns.label"
    assert "'same'" in error.message


def test_a_label_that_training_never_sees_is_refused_with_its_row(path: Path) -> None:
    write_csv(path, [(f"text {n}", "rare" if n == 3 else "ab"[n % 2]) for n in range(40)])
    # The only row of its label lies in the middle of the shuffle.
    error = refusal(path, splits={"train": 15, "validation": 15, "test": 5})
    assert error.field == "dataset.columns.label"
    assert "'rare' (data.csv, line 5)" in error.message


def test_a_label_of_rows_that_are_left_out_does_not_matter(path: Path) -> None:
    write_csv(path, [(f"text {n}", "rare" if n == 3 else "ab"[n % 2]) for n in range(40)])
    assert load(path, splits={"train": 10, "validation": 4, "test": 4}).labels == ("a", "b")


def test_texts_taken_for_labels_are_refused_before_they_fill_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "LABEL_LIMIT", 10)
    write_csv(path, [(f"text {n}", f"label {n}") for n in range(11)])
    error = refusal(path)
    assert error.field == "dataset.columns.label"
    assert "data.csv, line 12: more than 10 different labels" in error.message


@pytest.mark.parametrize(
    "splits", [{"train": 90, "validation": 10, "test": 1}, {"train": 0.9, "test": 0.2}]
)
def test_splits_beyond_the_rows_are_refused(path: Path, splits: dict[str, float]) -> None:
    error = refusal(path, splits=splits)
    assert error.field == "dataset.splits"
    assert "the dataset has 100" in error.message


@pytest.mark.parametrize("split", ["training", "", "1"])
def test_a_row_that_names_no_split_is_refused_with_its_line(path: Path, split: str) -> None:
    write_csv(path, [("a", "0", "train"), ("b", "1", split)], "text", "label", "part")
    error = refusal(path, split_column="part")
    assert error.field == "dataset.split_column"
    assert error.message.startswith(f"data.csv, line 3: the column 'part' says {split!r}")


@pytest.mark.parametrize(("there", "missing"), [("train", "test"), ("test", "train")])
def test_a_split_column_without_train_or_test_is_refused(
    path: Path, there: str, missing: str
) -> None:
    write_csv(path, [("a", "0", there), ("b", "1", "dev")], "text", "label", "part")
    error = refusal(path, split_column="part")
    assert error.field == "dataset.split_column"
    assert error.message == f"No row's column 'part' says {missing}."


def test_a_split_column_that_is_not_there_is_refused_with_those_that_are(path: Path) -> None:
    error = refusal(path, split_column="part")
    assert error.field == "dataset.split_column"
    assert error.message == "data.csv, line 2 has no column 'part'."
    assert "text, label" in error.remedy


def test_a_folder_with_a_split_column_is_refused(folder: Path) -> None:
    assert refusal(folder, split_column="label").field == "dataset.split_column"


def test_splits_are_not_both_carved_and_read() -> None:
    said = {"ref": "file:d", "splits": {}, "split_column": "part"}
    with pytest.raises(ValidationError, match="leave one of both out"):
        Dataset.model_validate(said)
