"""A profile tells what a file holds, whatever it is written in."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import pytest
from pyarrow import parquet, table

from pst_core import profiling, tallies
from pst_core.dataset_profile import (
    ColumnProfile,
    DatasetProfile,
    Dialect,
    Duplicates,
    FileKind,
    Lengths,
    ProfileLimits,
    ValueCount,
)
from pst_core.dataset_spec import Role
from pst_core.errors import InvalidDatasetError
from pst_core.profiling import profile

KINDS: tuple[FileKind, ...] = get_args(FileKind)
REVIEWS = [{"text": f"text {n}", "label": "neg" if n % 3 else "pos"} for n in range(9)]
Rows = Sequence[Mapping[str, object]]


def written(rows: Rows, kind: FileKind) -> str:
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    delimiter = "\t" if kind == "tsv" else ","
    lines = [[*rows[0]], *(row.values() for row in rows)]
    return "".join(delimiter.join(map(str, line)) + "\n" for line in lines)


def write(folder: Path, rows: Rows, kind: FileKind = "jsonl") -> Path:
    path = folder / f"d.{kind}"
    if kind == "parquet":
        parquet.write_table(table({name: [row[name] for row in rows] for name in rows[0]}), path)
    else:
        path.write_text(written(rows, kind), encoding="utf-8")
    return path


def profiled(path: Path, **limits: int) -> DatasetProfile:
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    (kind,) = (kind for kind in KINDS if kind == suffix)
    return profile(path, kind, ProfileLimits(**limits))


def of_json(folder: Path, *rows: Mapping[str, object], **limits: int) -> DatasetProfile:
    return profiled(write(folder, rows), **limits)


def of_csv(folder: Path, content: str) -> DatasetProfile:
    path = folder / "d.csv"
    path.write_text(content, encoding="utf-8")
    return profiled(path)


def column(folder: Path, *values: object) -> ColumnProfile:
    (found,) = of_json(folder, *({"x": value} for value in values)).columns
    return found


def refusal(path: Path, **limits: int) -> str:
    with pytest.raises(InvalidDatasetError) as caught:
        profiled(path, **limits)
    assert caught.value.field == "dataset.ref"
    assert caught.value.remedy
    return caught.value.message


def guessed(found: DatasetProfile) -> Mapping[str, Mapping[Role, str]]:
    return {guess.task: {**guess.columns} for guess in found.guesses}


@pytest.mark.parametrize("kind", KINDS)
def test_one_table_has_one_profile_whatever_it_is_written_in(
    tmp_path: Path, kind: FileKind
) -> None:
    found = profiled(write(tmp_path, REVIEWS, kind))
    text, label = found.columns
    assert (found.format, found.rows, found.gzip) == (kind, 9, False)
    assert (text.name, text.type, text.empty) == ("text", "text", 0)
    assert (label.name, label.type) == ("label", "text")
    assert label.values == (ValueCount(value="neg", rows=6), ValueCount(value="pos", rows=3))
    assert found.preview == tuple(REVIEWS[:5])
    assert guessed(found)["text-classification"] == {"text": "text", "label": "label"}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_compressed_file_has_the_profile_of_what_is_in_it(tmp_path: Path, kind: FileKind) -> None:
    path = write(tmp_path, REVIEWS, kind)
    plain = profiled(path)
    packed = tmp_path / f"d.{kind}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    found = profiled(packed)
    assert found.gzip
    assert found.model_copy(update={"gzip": False}) == plain


@pytest.mark.parametrize(
    ("kind", "encoding", "delimiter"),
    [
        ("csv", "utf-8", ","),
        ("tsv", "utf-8", "\t"),
        ("jsonl", "utf-8", None),
        ("parquet", None, None),
    ],
)
def test_each_format_says_its_encoding_and_dialect(
    tmp_path: Path, kind: FileKind, encoding: str | None, delimiter: str | None
) -> None:
    found = profiled(write(tmp_path, REVIEWS, kind))
    assert found.encoding == encoding
    assert (found.dialect and found.dialect.delimiter) == delimiter


def test_a_spreadsheets_export_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes('text;label\n"Na, ""ja""";1\nGut;0\n'.encode("utf-16"))
    found = profiled(path)
    assert found.encoding == "utf-16"
    assert found.dialect == Dialect(delimiter=";", escape="doubled")
    assert found.preview[0] == {"text": 'Na, "ja"', "label": "1"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, -2, None], "integer"), ([1, 2.5], "number"), ([0.5], "number"),
        ([True, False], "boolean"), (["1", "+2"], "integer"), (["1", "2.5e3"], "number"),
        (["true", "FALSE"], "boolean"), (["a", "1"], "text"), (["1", "true"], "text"),
        ([1, "a"], "text"), ([["a"], "b"], "nested"), ([{"a": 1}], "nested"),
        ([None, "", "  "], "empty"), (["1e"], "text"), (["²"], "text"),
    ],
)  # fmt: skip
def test_a_columns_type_is_that_of_all_its_values(
    tmp_path: Path, values: Sequence[object], kind: str
) -> None:
    assert column(tmp_path, *values).type == kind


@pytest.mark.parametrize("values", [["a", "", None, "  ", "\t"], ["", None, " ", "\n"]])
def test_empty_cells_are_counted_and_those_of_white_space_apart(
    tmp_path: Path, values: Sequence[object]
) -> None:
    found = column(tmp_path, *values)
    assert found.empty == 4
    assert found.whitespace == 2


def test_a_column_without_a_value_has_no_values(tmp_path: Path) -> None:
    assert column(tmp_path, None, "").values == ()


def test_a_key_that_rows_lack_is_empty_there(tmp_path: Path) -> None:
    found = of_json(tmp_path, {"a": 1}, {"a": 2, "b": 3}, {"a": 3})
    assert [(c.name, c.empty) for c in found.columns] == [("a", 0), ("b", 2)]


def test_parquets_nan_is_an_empty_cell(tmp_path: Path) -> None:
    (found,) = profiled(write(tmp_path, [{"x": 0.5}, {"x": float("nan")}], "parquet")).columns
    assert (found.type, found.empty) == ("number", 1)


def test_lengths_are_of_the_texts_that_are_there(tmp_path: Path) -> None:
    found = column(tmp_path, "four", "", "sixsix", None, "eighteig")
    assert found.lengths == Lengths(minimum=4, median=6, maximum=8, overlong=0)


def test_numbers_have_no_lengths(tmp_path: Path) -> None:
    assert column(tmp_path, "1", "22").lengths is None


def test_overlong_texts_are_counted_and_the_ends_are_exact(tmp_path: Path) -> None:
    found = column(tmp_path, "a" * 10_000, "b" * 10_001, "c" * 50_001, "d" * 9_999).lengths
    assert found is not None
    assert (found.minimum, found.maximum, found.overlong) == (9_999, 50_001, 2)
    assert 0.98 * 10_000 <= found.median <= 10_000


def test_a_label_has_its_distribution_the_most_frequent_first(tmp_path: Path) -> None:
    found = column(tmp_path, *[3] * 2 + [1] * 5 + [2])
    assert [(v.value, v.rows) for v in found.values or ()] == [("1", 5), ("3", 2), ("2", 1)]


@pytest.mark.parametrize("values", [range(65), ["a" * 201], [["a"], ["b"]]])
def test_values_that_are_many_long_or_nested_are_not_told(
    tmp_path: Path, values: Sequence[object]
) -> None:
    assert column(tmp_path, *values).values is None


def test_as_many_values_as_may_be_told_are_told(tmp_path: Path) -> None:
    assert len(column(tmp_path, *range(64)).values or ()) == 64


def test_rows_that_come_again_are_counted(tmp_path: Path) -> None:
    found = of_json(tmp_path, *[{"a": 1, "b": "x"}] * 3, {"a": 1, "b": "y"}, {"b": "x", "a": 1})
    assert found.duplicates == Duplicates(
        rows=3, texts_with_several_labels=None, texts_in_several_splits=None, capped=False
    )


def test_texts_with_several_labels_are_counted_once_each(tmp_path: Path) -> None:
    rows = [("a", 0), ("a", 1), ("a", 1), ("b", 0), ("b", 0), ("c", 1), ("c", 2), ("c", 3)]
    found = of_json(tmp_path, *({"review": text, "stars": label} for text, label in rows))
    assert found.duplicates.texts_with_several_labels == 2
    assert found.duplicates.rows == 2


def test_no_text_and_no_label_contradict_nothing(tmp_path: Path) -> None:
    rows = [("", 0), (None, 1), (" ", 1), ("", 1), ("a", 0), ("a", None)]
    found = of_json(tmp_path, *({"text": text, "label": label} for text, label in rows))
    assert found.duplicates.texts_with_several_labels == 0


def test_texts_in_several_splits_are_counted(tmp_path: Path) -> None:
    rows = [("a", "train"), ("a", "test"), ("b", "train"), ("b", "train"), ("c", "dev")]
    found = of_json(tmp_path, *({"text": text, "Split": split} for text, split in rows))
    assert found.split_column == "Split"
    assert found.duplicates.texts_in_several_splits == 1
    assert found.duplicates.texts_with_several_labels is None


@pytest.mark.parametrize(
    "row", [{"text": "a", "fold": "3"}, {"text": "a", "split": "train", "subset": "train"}]
)
def test_what_says_no_split_is_no_split_column(tmp_path: Path, row: Mapping[str, object]) -> None:
    found = of_json(tmp_path, row)
    assert found.split_column is None
    assert found.duplicates.texts_in_several_splits is None


def test_which_column_is_the_text_is_not_guessed_for_contradictions(tmp_path: Path) -> None:
    rows = [{"review": "a", "title": "b", "stars": stars} for stars in (1, 2)]
    assert of_json(tmp_path, *rows).duplicates.texts_with_several_labels is None


@pytest.mark.parametrize(("compared", "capped", "rows"), [(3, True, 2), (4, False, 3)])
def test_only_the_first_rows_are_compared_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: int, capped: bool, rows: int
) -> None:
    monkeypatch.setattr(tallies, "COMPARED", compared)
    found = of_json(tmp_path, *[{"a": 1}] * 4)
    assert (found.duplicates.capped, found.duplicates.rows) == (capped, rows)
    assert found.rows == 4


def test_the_preview_has_the_first_rows_and_cut_cells(tmp_path: Path) -> None:
    rows = [{"a" * 300: "x" * 300, "n": None, "i": 7}] * 4
    found = of_json(tmp_path, *rows, preview_rows=3)
    assert found.preview == ({"a" * 200: "x" * 200, "n": None, "i": "7"},) * 3


def test_the_preview_has_only_so_many_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "PREVIEW_COLUMNS", 2)
    found = of_json(tmp_path, {"a": 1, "b": 2, "c": 3})
    assert [*found.preview[0]] == ["a", "b"]
    assert len(found.columns) == 3


def test_what_no_database_keeps_is_replaced(tmp_path: Path) -> None:
    found = profiled(write(tmp_path, [{"a\0": "x\0"}], "parquet"))
    assert found.preview == ({"a\ufffd": "x\ufffd"},)
    assert found.columns[0].name == "a\ufffd"
    assert found.columns[0].values == (ValueCount(value="x\ufffd", rows=1),)


@pytest.mark.parametrize(
    ("content", "guesses"),
    [
        ("text,label\na,0\nb,1\n", {
            "text-classification": {"text": "text", "label": "label"},
            "causal-lm": {"text": "text"},
        }),
        ("Review,Stars\na,0.5\nb,1\n", {
            "text-regression": {"text": "Review", "label": "Stars"},
            "causal-lm": {"text": "Review"},
        }),
        ("sentence1,sentence2,label\na,b,0\nb,c,1\n", {
            "text-classification": {"text": "sentence1", "pair": "sentence2", "label": "label"},
            "causal-lm": {"text": "sentence1"},
        }),
        ("Satz,Klasse\na,0\nb,1\n", {
            "text-classification": {"text": "Satz", "label": "Klasse"},
            "causal-lm": {"text": "Satz"},
        }),
        ("prompt,completion\na,b\nc,d\n", {
            "data-to-text": {"prompt": "prompt", "completion": "completion"},
        }),
        ("text,label\na,0\nb,0\n", {"causal-lm": {"text": "text"}}),
        ("x,y\n1,2\n3,4\n", {}),
        ("review,title,stars\na,b,0\nc,d,1\n", {}),
    ],
)  # fmt: skip
def test_the_tasks_that_columns_suit_are_guessed(
    tmp_path: Path, content: str, guesses: Mapping[str, Mapping[str, str]]
) -> None:
    assert guessed(of_csv(tmp_path, content)) == guesses


def test_a_first_line_that_is_a_row_is_refused_by_what_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("I like it,pos\nNot me,neg\nOh yes,pos\nAgain,pos\n")
    assert "line 1 should name the columns, and its 'pos' comes again in 2 rows" in refusal(path)


def test_a_header_that_a_row_repeats_is_still_one(tmp_path: Path) -> None:
    assert of_csv(tmp_path, "text,label\na,label\nb,label\nc,x\n").rows == 3


@pytest.mark.parametrize("content", ["", "\n\n", "text,label\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(content)
    assert refusal(path) == "d.csv has no rows."


def test_a_row_with_cells_to_spare_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,1\nGood, really,1\n")
    assert "d.csv, line 3 has more cells" in refusal(path)


@pytest.mark.parametrize(("limit", "reason"), [("rows", "line 3"), ("columns", "line 3")])
def test_more_than_may_be_is_refused_with_its_line(tmp_path: Path, limit: str, reason: str) -> None:
    path = write(tmp_path, [{"a": 1}, {"b": 1}, {"c": 1}])
    assert reason in refusal(path, **{limit: 2})


def test_a_columns_name_without_end_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, [{"a": 1}, {"b" * 1_025: 1}])
    assert "line 2 has a column whose name is longer than 1,024 characters" in refusal(path)
