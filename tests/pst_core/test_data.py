"""Rows are read and split the same way every time, and bad data is refused with its place."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.data import Row, SplitData, load_splits, stratified
from pst_core.errors import InvalidDatasetError
from pst_core.references import DataSource
from pst_core.spec import Dataset

# In numbers of rows that leave some over.
SPLITS = {"train": 50, "validation": 20, "test": 20}


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_rows(path: Path, count: int = 100) -> Path:
    """Three texts of label `b` for each of label `a`, all different."""
    rows = [(f"text {number}", "abbb"[number % 4]) for number in range(count)]
    return write_csv(path, rows, ("text", "label"))


def read(
    path: Path,
    *,
    where: tuple[str, str] | None = None,
    seed: int = 0,
    splits: Mapping[str, float] | None = None,
    columns: Mapping[str, str] | None = None,
) -> SplitData:
    document = {"ref": "file:data", "splits": splits, "columns": columns or {}}
    source = DataSource(path=path, where=where)
    return load_splits(Dataset.model_validate(document), source, seed=seed)


def refusal(
    path: Path,
    *,
    splits: Mapping[str, float] | None = None,
    columns: Mapping[str, str] | None = None,
) -> InvalidDatasetError:
    with pytest.raises(InvalidDatasetError) as caught:
        read(path, splits=splits, columns=columns)
    return caught.value


def texts(rows: tuple[Row, ...]) -> set[str]:
    return {row.text for row in rows}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "splits"
    folder.mkdir()
    for name in ("train", "validation", "test"):
        rows = [(f"{name} {number}", str(number % 2)) for number in range(6)]
        write_csv(folder / f"{name}.csv", rows, ("text", "label"))
    return folder


def test_splits_in_numbers_get_as_many_rows(data: Path) -> None:
    splits = read(data, splits=SPLITS)
    assert {name: len(rows) for name, rows in splits.named().items()} == SPLITS


def test_splits_in_shares_get_that_share_of_all_rows(data: Path) -> None:
    splits = read(data, splits={"train": 0.5, "validation": 0.2, "test": 0.25})
    assert [len(rows) for rows in splits.named().values()] == [50, 20, 25]


def test_a_number_and_a_share_may_stand_side_by_side(data: Path) -> None:
    splits = read(data, splits={"train": 0.5, "validation": 10, "test": 30})
    assert [len(rows) for rows in splits.named().values()] == [50, 10, 30]


def test_four_fifths_are_trained_on_and_a_tenth_validated_on_by_default(data: Path) -> None:
    splits = read(data)
    assert (len(splits.train), len(splits.validation)) == (80, 10)


def test_splits_are_disjoint(data: Path) -> None:
    splits = read(data, splits=SPLITS)
    assert len(texts(splits.train) | texts(splits.validation) | texts(splits.test)) == 90


def test_each_split_has_the_label_shares_of_the_whole(data: Path) -> None:
    for rows in read(data, splits=SPLITS).named().values():
        a = Counter(row.label for row in rows)["a"]
        assert abs(a - len(rows) / 4) <= 1


def test_the_same_seed_splits_the_same_way(data: Path) -> None:
    assert read(data, seed=3) == read(data, seed=3)


def test_another_seed_splits_another_way(data: Path) -> None:
    assert texts(read(data, seed=3).test) != texts(read(data, seed=4).test)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(0, 1000))
def test_a_stratified_shuffle_keeps_every_row(labels: list[str], seed: int) -> None:
    rows = [Row(str(number), label, "") for number, label in enumerate(labels)]
    assert sorted(stratified(rows, seed), key=lambda row: int(row.text)) == rows


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.data())
def test_every_beginning_of_a_stratified_shuffle_has_nearly_the_shares_of_the_whole(
    labels: list[str], draw: st.DataObject
) -> None:
    rows = stratified([Row("", label, "") for label in labels], seed=0)
    length = draw.draw(st.integers(0, len(rows)))
    whole, beginning = Counter(labels), Counter(row.label for row in rows[:length])
    for label, count in whole.items():
        # One off by rounding its own place, and one by the other labels' rounding.
        assert abs(beginning[label] - length * count / len(labels)) <= 2


def test_a_stratified_shuffle_shuffles_within_a_label() -> None:
    rows = [Row(str(number), "a", "") for number in range(30)]
    assert stratified(rows, 0) != rows


def test_a_folder_brings_its_own_splits_in_their_order(folder: Path) -> None:
    splits = read(folder)
    for name, rows in splits.named().items():
        assert [row.text for row in rows] == [f"{name} {number}" for number in range(6)]


def test_a_folder_needs_no_validation(folder: Path) -> None:
    (folder / "validation.csv").unlink()
    assert read(folder).validation == ()


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_folder_without_train_or_test_is_refused_with_what_is_missing(
    folder: Path, name: str
) -> None:
    (folder / f"{name}.csv").unlink()
    error = refusal(folder)
    assert error.field == "dataset.ref"
    assert f"{name}.csv" in str(error)


def test_a_folder_with_sizes_for_its_splits_is_refused(folder: Path) -> None:
    assert refusal(folder, splits={}).field == "dataset.splits"


def test_the_labels_of_a_folder_come_from_its_training_split(folder: Path) -> None:
    write_csv(folder / "test.csv", [("x", "0"), ("y", "7")], ("text", "label"))
    error = refusal(folder)
    assert error.field == "dataset.columns.label"
    assert "'7' (test.csv, line 3)" in str(error)


def test_labels_that_are_numbers_count_up(tmp_path: Path) -> None:
    rows = [(f"text {number}", str((10, 9, -1)[number % 3])) for number in range(30)]
    path = write_csv(tmp_path / "data.csv", rows, ("text", "label"))
    assert read(path, splits={"train": 15, "test": 6}).labels == ("-1", "9", "10")


def test_labels_that_are_names_are_sorted(data: Path) -> None:
    assert read(data).labels == ("a", "b")


def test_the_columns_are_those_that_the_spec_names(tmp_path: Path) -> None:
    rows = [("no", "ab"[number % 2], f"text {number}") for number in range(40)]
    path = write_csv(tmp_path / "data.csv", rows, ("text", "class", "review"))
    splits = read(path, columns={"text": "review", "label": "class"})
    assert {row.text.partition(" ")[0] for row in splits.train} == {"text"}


def test_only_the_rows_of_the_part_are_read(tmp_path: Path) -> None:
    rows = [(f"{'xy'[n % 2]} {n}", "ab"[n // 2 % 2], "xy"[n % 2]) for n in range(80)]
    path = write_csv(tmp_path / "data.csv", rows, ("text", "label", "source"))
    splits = read(path, where=("source", "x"), splits={"train": 20, "validation": 8, "test": 8})
    read_texts = texts(splits.train) | texts(splits.validation) | texts(splits.test)
    assert {text[0] for text in read_texts} == {"x"}


def test_csv_and_jsonl_read_alike(tmp_path: Path) -> None:
    rows = [(f'a "quoted",\ntext {n}', str(n % 2)) for n in range(30)]
    path = write_csv(tmp_path / "data.csv", rows, ("text", "label"))
    lines = [json.dumps({"text": text, "label": int(label)}) for text, label in rows]
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    assert read(path).summary() == read(tmp_path / "data.jsonl").summary()


def test_a_byte_order_mark_is_not_part_of_the_first_column(data: Path) -> None:
    before = read(data)
    data.write_bytes(b"\xef\xbb\xbf" + data.read_bytes())
    assert read(data) == before


def test_a_row_knows_its_line(data: Path) -> None:
    splits = read(data)
    assert {row.place for row in splits.train if row.text == "text 7"} <= {"data.csv, line 9"}
    assert "data.csv, line 9" in {row.place for row in splits.train + splits.validation}


def test_the_summary_counts_rows_and_names_labels(data: Path) -> None:
    summary = read(data, splits=SPLITS).summary()
    assert (summary.rows, summary.labels) == (SPLITS, ("a", "b"))


def test_the_summarys_hash_does_not_depend_on_the_files_name(data: Path) -> None:
    before = read(data).summary()
    assert read(data.rename(data.with_name("other.csv"))).summary() == before


@pytest.mark.parametrize(("old", "new"), [("text 7,", "text 7!,"), ("text 7,b", "text 7,a")])
def test_the_summarys_hash_covers_texts_and_labels(data: Path, old: str, new: str) -> None:
    splits = {"train": 96, "validation": 1, "test": 1}
    before = read(data, splits=splits).summary().sha256
    data.write_text(data.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert read(data, splits=splits).summary().sha256 != before


def test_the_summarys_hash_covers_which_split_a_row_is_in(folder: Path) -> None:
    before = read(folder).summary().sha256
    text = (folder / "test.csv").read_text(encoding="utf-8")
    (folder / "test.csv").rename(folder / "spare.csv")
    (folder / "validation.csv").rename(folder / "test.csv")
    (folder / "validation.csv").write_text(text, encoding="utf-8")
    assert read(folder).summary().sha256 != before


@pytest.mark.parametrize("role", ["text", "label"])
def test_a_missing_column_is_refused_with_those_there_are(data: Path, role: str) -> None:
    error = refusal(data, columns={role: "absent"})
    assert error.field == f"dataset.columns.{role}"
    assert "data.csv, line 2 has no column 'absent'" in error.message
    assert "text, label" in error.remedy


@pytest.mark.parametrize("content", [b"", b"text,label\n", b"\n\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    error = refusal(path)
    assert error.field == "dataset.ref"
    assert "data.csv has no rows" in error.message


def test_a_part_without_rows_is_refused(data: Path) -> None:
    with pytest.raises(InvalidDatasetError, match="has no rows"):
        read(data, where=("source", "absent"))


@pytest.mark.parametrize("name", ["data.tsv", "data.csv.gz", "data"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    error = refusal(write_rows(tmp_path / name))
    assert error.field == "dataset.ref"
    assert f"{name} is neither .csv nor .jsonl" in error.message
    assert error.remedy


def test_a_suffix_in_capitals_is_the_same(tmp_path: Path) -> None:
    assert read(write_rows(tmp_path / "data.CSV")).labels == ("a", "b")


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"text,label\ncaf\xe9,1\n")
    error = refusal(path)
    assert error.field == "dataset.ref"
    assert f"{name}, line 2: not UTF-8" in error.message
    assert error.remedy


@pytest.mark.parametrize(
    "lines",
    ['"never closed,1\nmore,0\n', '"closed" too soon,1\n', f"{'x' * 1_000_001},1\n"],
    ids=["open", "early", "endless"],
)
def test_a_broken_quote_is_refused_with_a_line(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"text,label\nok,1\n{lines}", encoding="utf-8")
    error = refusal(path)
    assert error.field == "dataset.ref"
    assert error.message.startswith("data.csv, line ")
    assert "quotes" in error.remedy


@pytest.mark.parametrize(
    ("row", "role"),
    [(",1", "text"), ("  ,1", "text"), ("a\0b,1", "text"), ("good,", "label"), ("good", "label")],
    ids=["empty", "blank", "nul", "no label", "short row"],
)
def test_an_unusable_cell_is_refused_with_its_row_and_column(
    tmp_path: Path, row: str, role: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"text,label\nfine,1\n{row}\n", encoding="utf-8")
    error = refusal(path)
    assert error.field == f"dataset.columns.{role}"
    assert f"data.csv, line 3: the column '{role}' holds no {role}" in error.message
    assert error.remedy


@pytest.mark.parametrize("label", [None, True, 1.5, [], {}, ""])
def test_a_json_label_that_is_no_name_or_whole_number_is_refused(
    tmp_path: Path, label: object
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"text": "good", "label": label}) + "\n", encoding="utf-8")
    error = refusal(path)
    assert error.field == "dataset.columns.label"
    assert "data.jsonl, line 1" in error.message


@pytest.mark.parametrize("line", ["{", "[1]", "7", "null", "{'text': 1}", "[" * 100_000])
def test_a_line_that_is_no_json_object_is_refused_with_its_number(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f'{{"text": "good", "label": 1}}\n\n{line}\n', encoding="utf-8")
    error = refusal(path)
    assert error.field == "dataset.ref"
    assert "data.jsonl, line 3 is not" in error.message


def test_one_label_only_is_refused_with_it(tmp_path: Path) -> None:
    rows = [(f"text {number}", "same") for number in range(40)]
    error = refusal(write_csv(tmp_path / "data.csv", rows, ("text", "label")))
    assert error.field == "dataset.columns.label"
    assert "'same'" in error.message
    assert error.remedy


def test_a_label_that_training_never_sees_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = [(f"text {n}", "rare" if n == 3 else "ab"[n % 2]) for n in range(40)]
    path = write_csv(tmp_path / "data.csv", rows, ("text", "label"))
    # The only row of its label lies in the middle of the shuffle.
    error = refusal(path, splits={"train": 15, "validation": 15, "test": 5})
    assert error.field == "dataset.columns.label"
    assert "'rare' (data.csv, line 5)" in error.message
    assert error.remedy


@pytest.mark.parametrize(
    "splits", [{"train": 90, "validation": 10, "test": 1}, {"train": 0.9, "test": 0.2}]
)
def test_splits_beyond_the_rows_are_refused(data: Path, splits: dict[str, float]) -> None:
    error = refusal(data, splits=splits)
    assert error.field == "dataset.splits"
    assert "the dataset has 100" in error.message
    assert error.remedy


def test_a_share_of_less_than_one_row_gets_one(data: Path) -> None:
    assert len(read(data, splits={"train": 0.5, "test": 0.001}).test) == 1


@pytest.mark.parametrize("count", [100, 40, 20])
def test_the_default_splits_use_every_row(tmp_path: Path, count: int) -> None:
    splits = read(write_rows(tmp_path / "d.csv", count))

    assert {name: len(rows) for name, rows in splits.named().items()} == {
        "train": count * 8 // 10,
        "validation": count // 10,
        "test": count // 10,
    }


@pytest.mark.parametrize("count", [8, 15, 16, 26, 1006])
def test_the_default_splits_fit_any_number_of_rows(tmp_path: Path, count: int) -> None:
    splits = read(write_rows(tmp_path / "d.csv", count))

    assert all(len(rows) >= 1 for rows in splits.named().values())


def test_a_byte_that_is_not_utf_8_is_found_far_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(b"text,label\n" + b"good,1\n" * 3000 + b"b\xff,0\n")

    assert "line 3002" in refusal(path).message


def test_a_broken_quote_names_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('text,label\nok,1\n"closed" too soon,1\n', encoding="utf-8")

    assert "line 3" in refusal(path).message


@pytest.mark.parametrize("label", ["--1", "9" * 5000])
def test_labels_that_look_like_numbers_are_names(tmp_path: Path, label: str) -> None:
    rows = [(f"text {number}", ("7", label)[number % 2]) for number in range(40)]
    path = write_csv(tmp_path / "d.csv", rows, ("text", "label"))

    assert set(read(path).labels) == {label, "7"}


@pytest.mark.parametrize("cell", ["a\\ud800", "a\\u0000"])
def test_text_that_nobody_could_store_is_refused(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(f'{{"text": "{cell}", "label": 1}}\n'.replace("\\\\", "\\"), encoding="utf-8")

    assert refusal(path).field == "dataset.columns.text"


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train.csv", "train.jsonl", "test.csv"):
        write_rows(tmp_path / name)

    assert "train.csv, train.jsonl" in refusal(tmp_path).message


def test_a_folder_in_the_place_of_a_split_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").mkdir()

    assert refusal(tmp_path).field == "dataset.ref"
