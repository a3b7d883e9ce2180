"""A dataset is split the same way every time, by its labels, and without keeping its texts."""

import json
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pytest
from pyarrow import parquet, table

from pst_core.data import SplitData
from pst_core.dataset_spec import SplitName
from pst_core.errors import InvalidDatasetError
from pst_core.events import EVENT
from pst_core.readers import SPLITS
from pst_core.rows import Target
from tests.pst_core.tables import load, write_csv, write_folder, write_rows

# In numbers of rows that leave some over.
SIZES = {"train": 50, "validation": 20, "test": 20}


def texts(data: SplitData, split: SplitName) -> list[str]:
    return [row.cells["text"] for row in data.rows(split)]


def all_texts(data: SplitData) -> dict[str, list[str]]:
    return {split: texts(data, split) for split in SPLITS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "splits")


@pytest.mark.parametrize(
    ("asked", "counts"),
    [
        (SIZES, [50, 20, 20]),
        ({"train": 0.5, "validation": 0.2, "test": 0.25}, [50, 20, 25]),
        ({"train": 0.5, "validation": 10, "test": 30}, [50, 10, 30]),
        (None, [80, 10, 10]),
        ({"train": 0.5, "test": 0.001}, [50, 10, 1]),
    ],
    ids=["numbers", "shares", "both", "default", "less than a row"],
)
def test_splits_get_as_many_rows_as_asked(
    path: Path, asked: Mapping[str, float] | None, counts: list[int]
) -> None:
    data = load(path, splits=asked)
    assert [len(texts(data, split)) for split in SPLITS] == counts
    assert [data.count(split) for split in SPLITS] == counts


@pytest.mark.parametrize("count", [8, 15, 16, 26, 1006])
def test_the_default_splits_fit_any_number_of_rows(tmp_path: Path, count: int) -> None:
    data = load(write_rows(tmp_path / "d.csv", count))
    assert all(data.count(split) >= 1 for split in SPLITS)


def test_splits_are_disjoint(path: Path) -> None:
    seen = Counter(chain(*all_texts(load(path, splits=SIZES)).values()))
    assert len(seen) == 90
    assert set(seen.values()) == {1}


def test_rows_come_in_the_order_of_the_file_however_often(path: Path) -> None:
    data = load(path, splits=SIZES)
    found = texts(data, "validation")
    assert found == sorted(found, key=lambda text: int(text.split()[1]))
    assert found == texts(data, "validation")


def test_a_row_keeps_its_place_in_the_file(path: Path) -> None:
    for row in load(path).rows("test"):
        assert row.place == f"data.csv, line {int(row.cells['text'].split()[1]) + 2}"


def test_each_split_has_the_label_shares_of_the_whole(path: Path) -> None:
    data = load(path, splits=SIZES)
    for split in SPLITS:
        a = Counter(row.cells["label"] for row in data.rows(split))["a"]
        assert abs(a - data.count(split) / 4) <= 1


def test_rows_sorted_by_label_are_split_as_evenly(tmp_path: Path) -> None:
    rows = [(f"text {n}", "b" if n < 90 else "a") for n in range(100)]
    data = load(write_csv(tmp_path / "d.csv", rows))
    assert [row.cells["label"] for row in data.rows("test")] == ["b"] * 9 + ["a"]


@pytest.mark.parametrize("labels", ["abc", "cba"])
def test_a_row_to_spare_goes_to_the_first_label_by_name(tmp_path: Path, labels: str) -> None:
    path = write_csv(tmp_path / "d.csv", [(f"text {n}", labels[n % 3]) for n in range(12)])
    data = load(path, splits={"train": 4, "validation": 1, "test": 1})
    assert Counter(row.cells["label"] for row in data.rows("train")) == {"a": 2, "b": 1, "c": 1}


@pytest.mark.parametrize("target", ["number", "none"])
def test_without_classes_the_splits_are_a_plain_shuffle(tmp_path: Path, target: Target) -> None:
    path = write_csv(tmp_path / "d.csv", [(f"text {n}", str(n)) for n in range(100)])
    data = load(path, target=target)
    assert data.labels == ()
    assert data.count("test") == 10
    assert texts(data, "test") != [f"text {n}" for n in range(90, 100)]


def test_the_same_seed_splits_the_same_way(path: Path) -> None:
    assert all_texts(load(path, seed=3)) == all_texts(load(path, seed=3))


def test_another_seed_splits_another_way(path: Path) -> None:
    assert texts(load(path, seed=3), "test") != texts(load(path, seed=4), "test")


def test_a_folder_brings_its_own_splits_in_their_order(folder: Path) -> None:
    assert all_texts(load(folder)) == {
        name: [f"{name} {number}" for number in range(6)] for name in SPLITS
    }


def test_a_folder_without_validation_has_no_rows_there(folder: Path) -> None:
    (folder / "validation.csv").unlink()
    assert texts(load(folder), "validation") == []


def test_a_folders_shards_are_read_one_after_the_other(folder: Path) -> None:
    (folder / "train.csv").unlink()
    for shard in range(3):
        columns = {"text": [f"shard {shard}", "more"], "label": [0, 1]}
        parquet.write_table(table(columns), folder / f"train-0000{shard}-of-00003.parquet")
    found = texts(load(folder), "train")
    assert found == ["shard 0", "more", "shard 1", "more", "shard 2", "more"]


def test_labels_that_are_numbers_count_up(tmp_path: Path) -> None:
    rows = [(f"text {number}", str((10, 9, -1)[number % 3])) for number in range(30)]
    data = load(write_csv(tmp_path / "d.csv", rows))
    assert data.labels == ("-1", "9", "10")


def test_labels_that_are_names_are_sorted(path: Path) -> None:
    assert load(path).labels == ("a", "b")


def test_a_part_is_split_by_itself(tmp_path: Path) -> None:
    rows = [(f"{'xy'[n % 2]} {n}", "ab"[n // 2 % 2], "xy"[n % 2]) for n in range(80)]
    path = write_csv(tmp_path / "d.csv", rows, "text", "label", "source")
    data = load(path, where=("source", "x"))
    assert [data.count(split) for split in SPLITS] == [32, 4, 4]
    assert {text[0] for found in all_texts(data).values() for text in found} == {"x"}


def test_the_summary_counts_rows_and_names_labels(path: Path) -> None:
    summary = load(path, splits=SIZES).summary()
    assert (summary.rows, summary.labels) == (SIZES, ("a", "b"))


def test_the_summarys_hash_does_not_depend_on_the_files_name_or_format(tmp_path: Path) -> None:
    rows = [(f'a "quoted",\ntext {n}', str(n % 2)) for n in range(30)]
    before = load(write_csv(tmp_path / "one.csv", rows)).summary()
    lines = [json.dumps({"text": text, "label": int(label)}) for text, label in rows]
    (tmp_path / "other.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert load(tmp_path / "other.jsonl").summary() == before


@pytest.mark.parametrize(("old", "new"), [("text 7,", "text 7!,"), ("text 7,b", "text 7,a")])
def test_the_summarys_hash_covers_every_cell(path: Path, old: str, new: str) -> None:
    splits = {"train": 96, "validation": 1, "test": 1}
    before = load(path, splits=splits).summary().sha256
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert load(path, splits=splits).summary().sha256 != before


def test_the_summarys_hash_covers_which_split_a_row_is_in(folder: Path) -> None:
    before = load(folder).summary().sha256
    (folder / "test.csv").rename(folder / "spare.csv")
    (folder / "validation.csv").rename(folder / "test.csv")
    (folder / "spare.csv").rename(folder / "validation.csv")
    assert load(folder).summary().sha256 != before


def test_the_summarys_hash_covers_the_order_of_the_rows(folder: Path) -> None:
    before = load(folder).summary().sha256
    rows = [(f"train {number}", str(number % 2)) for number in reversed(range(6))]
    write_csv(folder / "train.csv", rows)
    assert load(folder).summary().sha256 != before


def write_split(path: Path, *values: str, column: str = "split") -> Path:
    rows = [(f"text {n}", "ab"[n // len(values) % 2], v) for n, v in enumerate(values * 2)]
    return write_csv(path, rows, "text", "label", column)


def test_a_column_says_the_split_of_each_row(tmp_path: Path) -> None:
    path = write_split(tmp_path / "d.csv", "train", "test", " Train", "DEV")
    assert all_texts(load(path, split_column="split")) == {
        "train": ["text 0", "text 2", "text 4", "text 6"],
        "validation": ["text 3", "text 7"],
        "test": ["text 1", "text 5"],
    }


def test_no_row_need_be_validated_on_where_a_column_says_the_split(tmp_path: Path) -> None:
    data = load(write_split(tmp_path / "d.csv", "train", "test"), split_column="split")
    assert [data.count(split) for split in SPLITS] == [2, 0, 2]


def test_the_seed_has_no_say_where_a_column_says_the_split(tmp_path: Path) -> None:
    path = write_split(tmp_path / "d.csv", "train", "valid", "test")
    one, other = (load(path, split_column="split", seed=seed) for seed in (1, 2))
    assert one.summary() == other.summary()


def test_a_column_is_no_split_unless_the_spec_says_so(tmp_path: Path) -> None:
    path = write_split(tmp_path / "d.csv", *["train"] * 8, "test")
    assert load(path).count("test") == 1
    assert load(path, split_column="split").count("test") == 2


def test_what_was_read_is_told_by_the_names_in_the_file(tmp_path: Path) -> None:
    rows = [(f"text {n}", "ab"[n % 2]) for n in range(20)]
    event = load(write_csv(tmp_path / "d.csv", rows, "Review", "stars")).event()
    assert event.columns == {"text": "Review", "label": "stars"}
    assert event.rows == {"train": 16, "validation": 2, "test": 2}
    assert EVENT.validate_json(EVENT.dump_json(event)) == event


def test_a_file_changed_after_it_was_split_is_refused(path: Path) -> None:
    data = load(path)
    write_rows(path, 101)
    with pytest.raises(InvalidDatasetError, match=r"data\.csv has changed"):
        next(data.rows("train"))


def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "d.csv", [("long " * 400, "ab"[n % 2]) for n in range(5000)])
    tracemalloc.start()
    data = load(path)
    read = sum(1 for _ in data.rows("train"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == 4000
    assert peak * 10 < path.stat().st_size
