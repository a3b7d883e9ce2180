"""Every format gives the same records, each with its place; what is broken is refused."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pyarrow import (
    array,
    binary,
    parquet,
    string,
    table,
    total_allocated_bytes,
)

from pst_core import lines
from pst_core.dataset_spec import SplitName
from pst_core.errors import InvalidDatasetError
from pst_core.readers import records, split_files

ROWS = [{"text": 'a "quoted",\ttext', "label": "1"}, {"text": "naïve 👍", "label": "0"}]
WRITTEN = {
    "a.csv": 'text,label\n"a ""quoted"",\ttext",1\nnaïve 👍,0\n',
    "a.tsv": 'text\tlabel\n"a ""quoted"",\ttext"\t1\nnaïve 👍\t0\n',
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "a.json": "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in ROWS),
}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_parquet(path: Path, columns: Mapping[str, object], **options: object) -> Path:
    parquet.write_table(table(columns), path, **options)
    return path


def refusal(path: Path) -> InvalidDatasetError:
    with pytest.raises(InvalidDatasetError) as caught:
        list(records(path))
    assert caught.value.field == "dataset.ref"
    assert caught.value.remedy
    return caught.value


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def names_of(folder: Path, split: SplitName) -> list[str]:
    return [path.name for path in split_files(folder)[split]]


def folder_refusal(folder: Path) -> InvalidDatasetError:
    with pytest.raises(InvalidDatasetError) as caught:
        split_files(folder)
    assert caught.value.field == "dataset.ref"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", WRITTEN)
def test_text_formats_read_alike(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, WRITTEN[name])
    assert [record for _, record in records(path)] == ROWS


def test_parquet_reads_as_text_formats_do(tmp_path: Path) -> None:
    columns = {name: [row[name] for row in ROWS] for name in ("text", "label")}
    path = write_parquet(tmp_path / "a.parquet", columns)
    assert [record for _, record in records(path)] == ROWS


def test_parquet_keeps_the_types_of_its_values(tmp_path: Path) -> None:
    columns = {"i": [1, None], "f": [0.5, 1.0], "b": [True, False]}
    path = write_parquet(tmp_path / "a.parquet", columns)
    found = [record for _, record in records(path)]
    assert found == [{"i": 1, "f": 0.5, "b": True}, {"i": None, "f": 1.0, "b": False}]


def test_a_text_files_lines_are_its_records(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one, \r\n\n  \n\u2028two\nno end")
    assert list(records(path)) == [
        ("a.txt, line 1", {"text": "one, "}),
        ("a.txt, line 4", {"text": "\u2028two"}),
        ("a.txt, line 5", {"text": "no end"}),
    ]


def test_a_records_place_is_the_line_where_it_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"two\nlines",1\n\nb,0\n')
    assert [place for place, _ in records(path)] == ["a.csv, line 3", "a.csv, line 5"]


def test_blank_lines_between_json_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"x": 1}\n\n{"x": 2}\n')
    assert [place for place, _ in records(path)] == ["a.jsonl, line 1", "a.jsonl, line 3"]


def test_parquet_rows_are_counted_across_its_groups(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"x": list(range(300))}, row_group_size=7)
    places = [(place, record["x"]) for place, record in records(path)]
    assert places == [(f"a.parquet, row {number + 1}", number) for number in range(300)]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbftext\nx\n")
    assert [record for _, record in records(path)] == [{"text": "x"}]


def test_a_suffix_in_capitals_is_the_same(tmp_path: Path) -> None:
    assert len(list(records(write(tmp_path / "a.CSV", WRITTEN["a.csv"])))) == 2


def test_records_are_read_only_as_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"x": 1}\n' * 100_000 + "broken")
    assert next(records(path)) == ("a.jsonl, line 1", {"x": 1})


def test_parquet_takes_little_memory_whatever_the_size_of_its_groups(tmp_path: Path) -> None:
    texts = [f"{number:06}" * 100 for number in range(40_000)]
    plain = {"compression": "none", "use_dictionary": False}
    path = write_parquet(tmp_path / "a.parquet", {"text": texts}, **plain)
    before = total_allocated_bytes()
    held = [total_allocated_bytes() - before for _ in records(path)]
    assert max(held) * 8 < path.stat().st_size


@pytest.mark.parametrize("name", ["data.xlsx", "data.parquet.gz", "data.gz", "data"])
def test_a_file_of_another_kind_is_refused_with_the_kinds_there_are(
    tmp_path: Path, name: str
) -> None:
    error = refusal(write(tmp_path / name, WRITTEN["a.csv"]))
    assert f"{name} is none of .csv, .tsv, .jsonl, .json, .parquet, .txt" in error.message


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.txt"])
def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b'{"text": 1}\ncaf\xe9,1\n')
    assert f"{name}, line 2: not UTF-8" in refusal(path).message


def test_a_byte_that_is_not_utf8_is_found_far_into_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", b"text,label\n" + b"good,1\n" * 3000 + b"b\xff,0\n")
    assert "line 3002" in refusal(path).message


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ('"never closed,1\nmore,0\n', 4),
        ('"closed" too soon,1\nmore,0\n', 3),
        (f"{'x' * 1_000_001},1\n", 3),
    ],
    ids=["open", "early", "endless"],
)
def test_a_broken_quote_is_refused_with_its_line(tmp_path: Path, lines: str, number: int) -> None:
    error = refusal(write(tmp_path / "data.csv", f"text,label\nok,1\n{lines}"))
    assert error.message.startswith(f"data.csv, line {number}: ")
    assert "quotes" in error.remedy


@pytest.mark.parametrize("line", ["{", "[1]", "7", "null", "{'text': 1}", "[" * 100_000])
def test_a_line_that_is_no_json_object_is_refused_with_its_number(
    tmp_path: Path, line: str
) -> None:
    path = write(tmp_path / "data.jsonl", f'{{"text": "good", "label": 1}}\n\n{line}\n')
    assert "data.jsonl, line 3 is not" in refusal(path).message


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl", "d.txt"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 100)
    path = write(tmp_path / name, '{"text": 1}\n' + "x" * 101)
    assert f"{name}, line 2 is longer than 100" in refusal(path).message


@pytest.mark.parametrize("content", [b"", b"PAR1 is not all it takes PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "d.parquet", content)
    assert "d.parquet cannot be read as Parquet" in refusal(path).message


def test_a_parquet_file_broken_inside_is_refused_with_the_last_good_row(tmp_path: Path) -> None:
    texts = [f"text {number:06}" for number in range(3000)]
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    path = write_parquet(tmp_path / "d.parquet", {"text": texts}, row_group_size=1000, **plain)
    content = path.read_bytes()
    row = content.index(b"text 002500")
    write(path, content[: row - 4] + b"\xff" * 4 + content[row:])
    assert "beyond row 2" in refusal(path).message


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    column = array([b"caf\xe9"], binary()).view(string())
    error = refusal(write_parquet(tmp_path / "d.parquet", {"text": column}))
    assert "'utf-8' codec" in error.message


def test_a_folder_has_a_file_for_each_split(tmp_path: Path) -> None:
    touch(tmp_path, "train.csv", "validation.tsv", "test.parquet", "README.md", "trainer.csv")
    assert names_of(tmp_path, "train") == ["train.csv"]
    assert names_of(tmp_path, "validation") == ["validation.tsv"]
    assert names_of(tmp_path, "test") == ["test.parquet"]


@pytest.mark.parametrize("name", ["valid.csv", "dev.csv", "dev-00000-of-00001.parquet"])
def test_validation_has_other_names(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "train.csv", name, "test.csv")
    assert names_of(tmp_path, "validation") == [name]


def test_a_folder_needs_no_validation(tmp_path: Path) -> None:
    touch(tmp_path, "train.csv", "test.csv")
    assert names_of(tmp_path, "validation") == []


def test_shards_are_one_split_in_the_order_of_their_names(tmp_path: Path) -> None:
    shards = [f"data/train-0000{number}-of-00003.parquet" for number in (1, 0, 2)]
    touch(tmp_path, *shards, "data/test-00000-of-00001-0123456789abcdef.parquet")
    assert names_of(tmp_path, "train") == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    assert names_of(tmp_path, "test") == ["test-00000-of-00001-0123456789abcdef.parquet"]


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_folder_without_train_or_test_is_refused_with_what_is_missing(
    tmp_path: Path, name: str
) -> None:
    touch(tmp_path, *{"train.csv", "test.csv"} - {f"{name}.csv"})
    message = folder_refusal(tmp_path).message
    assert f"needs one {name}.csv" in message
    assert message.endswith("has none.")


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "train.jsonl"),
        ("train.csv", "data/train.csv"),
        ("train-00000-of-00001.csv", "train.csv"),
        ("train-00000-of-00002.csv", "train-00001-of-00002.jsonl"),
        ("train-00000-of-00003.csv", "train-00002-of-00003.csv"),
        ("train-00000-of-00001-0a.csv", "train-00000-of-00001-0b.csv"),
    ],
)
def test_files_that_are_not_shards_of_one_are_refused_by_name(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    touch(tmp_path, *names, "test.csv")
    there = ", ".join(name.removeprefix("data/") for name in names)
    assert folder_refusal(tmp_path).message.endswith(f"and has {there}.")
