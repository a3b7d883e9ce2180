"""A record becomes a row of cells by role, or a fault with its place and reason."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pst_core.dataset_spec import Role
from pst_core.errors import InvalidDatasetError
from pst_core.rows import DataFile, Fault, Row, Table, Target

TEXT_AND_LABEL: Mapping[Role, str] = {"text": "text", "label": "label"}


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def read(
    path: Path,
    columns: Mapping[Role, str] = TEXT_AND_LABEL,
    *,
    target: Target = "class",
    where: tuple[str, str] | None = None,
) -> list[Row | Fault]:
    file = DataFile.of(path)
    return list(Table(files=(file,), columns=columns, target=target, where=where).read(file))


def read_json(path: Path, *values: Mapping[str, object], target: Target = "class") -> Row | Fault:
    (row,) = read(write(path, "\n".join(map(json.dumps, values))), target=target)
    return row


def read_label(folder: Path, label: object, *, target: Target) -> Row | Fault:
    return read_json(folder / "d.jsonl", {"text": "good", "label": label}, target=target)


def test_a_row_has_a_cell_for_each_role_and_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "sentence2,no,sentence1,class\nb,x,a,1\n")
    columns: Mapping[Role, str] = {"text": "sentence1", "pair": "sentence2", "label": "class"}
    cells: Mapping[Role, str] = {"text": "a", "pair": "b", "label": "1"}
    assert read(path, columns) == [Row(cells, "d.csv, line 2")]


def test_cells_keep_the_space_around_them(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "prompt,completion\n Q: ,  A\n")
    (row,) = read(path, {"prompt": "prompt", "completion": "completion"}, target="none")
    assert isinstance(row, Row)
    assert row.cells == {"prompt": " Q: ", "completion": "  A"}


def test_only_the_rows_of_the_part_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label,source\na,1,x\nb,1,y\n,1,y\nc,1,x\n")
    places = [row.place for row in read(path, where=("source", "x"))]
    assert places == ["d.csv, line 2", "d.csv, line 5"]


@pytest.mark.parametrize("role", ["text", "label"])
def test_a_missing_column_is_refused_with_those_there_are(tmp_path: Path, role: Role) -> None:
    path = write(tmp_path / "d.csv", "text,label\na,1\n")
    with pytest.raises(
        InvalidDatasetError, match=r"d\.csv, line 2 has no column 'absent'"
    ) as caught:
        read(path, {**TEXT_AND_LABEL, role: "absent"})
    assert caught.value.field == f"dataset.columns.{role}"
    assert "text, label" in caught.value.remedy


def test_a_column_that_a_later_record_lacks_is_that_rows_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n')
    fault = Fault("d.jsonl, line 2", "label", "the column 'label' holds no label")
    assert read(path)[1] == fault


@pytest.mark.parametrize(
    ("row", "role"),
    [(",1", "text"), ("  ,1", "text"), ("good,", "label"), ("good", "label")],
    ids=["empty", "blank", "no label", "short row"],
)
def test_a_cell_without_text_is_a_fault(tmp_path: Path, row: str, role: Role) -> None:
    path = write(tmp_path / "d.csv", f"text,label\n{row}\n")
    assert read(path) == [Fault("d.csv, line 2", role, f"the column '{role}' holds no {role}")]


@pytest.mark.parametrize("role", ["pair", "prompt", "completion"])
def test_no_role_may_be_empty(tmp_path: Path, role: Role) -> None:
    path = write(tmp_path / "d.csv", "text,other\na,\n")
    (fault,) = read(path, {"text": "text", role: "other"}, target="none")
    assert fault == Fault("d.csv, line 2", role, f"the column 'other' holds no {role}")


def test_an_unquoted_comma_is_a_fault_and_no_shortened_text(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\nGood, really,1\n")
    reason = "it has more cells than there are columns"
    assert read(path) == [Fault("d.csv, line 2", "text", reason)]


def test_commas_at_the_end_of_a_line_are_overlooked(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path / "d.csv", "text,label\ngood,1,, \n"))
    assert row == Row({"text": "good", "label": "1"}, "d.csv, line 2")


@pytest.mark.parametrize(("label", "name"), [("pos", "pos"), (7, "7"), (-1, "-1"), ("1.0", "1.0")])
def test_a_class_is_a_name_or_a_whole_number(tmp_path: Path, label: object, name: str) -> None:
    row = read_label(tmp_path, label, target="class")
    assert isinstance(row, Row)
    assert row.cells["label"] == name


@pytest.mark.parametrize("label", [None, True, 1.5, [], {}, "", " "])
def test_no_class_is_made_of_anything_else(tmp_path: Path, label: object) -> None:
    fault = read_label(tmp_path, label, target="class")
    assert fault == Fault("d.jsonl, line 1", "label", "the column 'label' holds no label")


@pytest.mark.parametrize("label", [3, -2.5, 1e-7, 0.1 + 0.2, "3", " 2.5 ", "1e3"])
def test_a_number_reads_back_as_it_was(tmp_path: Path, label: float | str) -> None:
    row = read_label(tmp_path, label, target="number")
    assert isinstance(row, Row)
    assert float(row.cells["label"]) == float(label)


@pytest.mark.parametrize("label", ["nan", "inf", "high", "1_000", "3,5", "1e999"])
def test_a_label_that_is_no_finite_number_is_a_fault(tmp_path: Path, label: object) -> None:
    fault = read_label(tmp_path, label, target="number")
    assert fault == Fault("d.jsonl, line 1", "label", "the column 'label' holds no finite number")


@pytest.mark.parametrize("label", [None, True, ""])
def test_nothing_and_true_are_no_numbers(tmp_path: Path, label: object) -> None:
    assert isinstance(read_label(tmp_path, label, target="number"), Fault)


def test_a_text_is_not_made_of_a_decimal_number(tmp_path: Path) -> None:
    fault = read_json(tmp_path / "d.jsonl", {"text": 0.5, "label": 1}, target="number")
    assert fault == Fault("d.jsonl, line 1", "text", "the column 'text' holds no text")


@pytest.mark.parametrize("change", ["longer", "rewritten", "gone"])
def test_a_file_that_changed_since_it_was_opened_is_refused(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "d.csv", "text\na\n")
    file = DataFile.of(path)
    if change == "longer":
        write(path, "text\na\nb\n")
        os.utime(path, ns=(0, file.modified_ns))
    elif change == "rewritten":
        os.utime(path, ns=(0, file.modified_ns + 1))
    else:
        path.unlink()
    with pytest.raises(InvalidDatasetError, match=r"d\.csv has changed") as caught:
        list(file.records())
    assert caught.value.field == "dataset.ref"


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text\na\nb\n")
    file = DataFile.of(path)
    reading = file.records()
    next(reading)
    os.utime(path, ns=(0, file.modified_ns + 1))
    with pytest.raises(InvalidDatasetError, match=r"d\.csv has changed"):
        list(reading)
