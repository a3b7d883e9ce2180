"""`bench padding` compares two ways to fill batches with the same texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pst_core.__main__ import cli
from pst_core.bench import report
from pst_core.bench.padding import BATCH_SIZE, Batching, Epoch, measure
from pst_core.bench.shapes import Workload
from pst_core.bench.step import Timing
from pst_core.bench.texts import sentences
from pst_core.errors import PstError
from tests.pst_core import tiny

TINY = Workload(model="tiny", tokens=64, rounds=3, dropout=0.1, device="cpu")
# Half of them short, half long, so that every batch of dynamic padding holds both.
COUNTS = np.array([5, 20] * BATCH_SIZE * 5, np.int64)[: BATCH_SIZE * 5]


def test_an_epoch_is_counted_both_ways() -> None:
    epochs = measure(TINY, COUNTS)
    assert epochs["dynamic"].sizes == [20 * BATCH_SIZE] * 5
    # Of five batches of like lengths the third holds both as well.
    assert sorted(epochs["bucketed"].sizes) == [5 * BATCH_SIZE] * 2 + [20 * BATCH_SIZE] * 3


def test_the_batches_that_run_are_of_all_sizes_and_as_many_of_each() -> None:
    epochs = measure(TINY, COUNTS)
    assert [size // BATCH_SIZE for size in epochs["bucketed"].sampled] == [5, 20, 20]
    assert [size // BATCH_SIZE for size in epochs["dynamic"].sampled] == [20, 20, 20]
    assert {len(epoch.timing.cpu_seconds) for epoch in epochs.values()} == {3}


def test_of_an_epoch_shorter_than_the_rounds_every_batch_runs_once() -> None:
    epochs = measure(TINY, COUNTS[:50])
    assert all(sorted(epoch.sizes) == epoch.sampled for epoch in epochs.values())


def test_an_epochs_time_is_that_of_its_steps_on_average() -> None:
    epoch = Epoch([1, 2, 3, 4], [2, 3], Timing([1.0, 2.0], [0.5, 0.5]))
    assert epoch.seconds("wall") == 6.0
    assert epoch.seconds("cpu") == 2.0


def test_ratios_are_to_dynamic_padding() -> None:
    epochs: dict[Batching, Epoch] = {
        "dynamic": Epoch([40, 40], [40], Timing([2.0], [2.0])),
        "bucketed": Epoch([20, 40], [20], Timing([1.0], [0.5])),
    }
    batchings: Any = report.padding(TINY, epochs)["batchings"]
    found = {name: batchings["bucketed"][f"{name}_ratio"] for name in ("tokens", "wall", "cpu")}
    assert found == {"tokens": 0.75, "wall": 0.5, "cpu": 0.25}
    assert report.padding_table(TINY, epochs).row_count == 2


def test_the_texts_of_a_dataset_are_measured(tmp_path: Path) -> None:
    data = tiny.save_csv(tmp_path / "toy.csv", tiny.toy_rows(100))
    words = ["bench", "padding", "--model", "tiny", "--device", "cpu", "--rounds", "1", "--json"]
    result = CliRunner().invoke(cli, [*words, "--data", f"file:{data}"], catch_exceptions=False)
    (measured,) = json.loads(result.stdout)["measured"]
    # Of the hundred rows eighty are trained on.
    assert {each["batches"] for each in measured["batchings"].values()} == {3}
    assert measured["batchings"]["bucketed"]["tokens_ratio"] < 1


@pytest.mark.parametrize("reference", ["tape:films", ""])
def test_what_is_no_dataset_is_named(reference: str) -> None:
    words = ["bench", "padding", "--model", "tiny", "--data", reference]
    error = CliRunner().invoke(cli, words).exception
    assert isinstance(error, PstError)
    assert error.field == "--data"


def test_texts_are_the_sentences_of_docstrings_each_once(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(
        'class Tape:\n    """Holds films.  It\n    turns.\n\n    Args: none"""\n'
    )
    (tmp_path / "a.py").write_text('"""It turns."""\nraise SystemExit\n')
    assert sentences(tmp_path) == ["It turns.", "Holds films.", "Args: none"]


def test_docstrings_of_tests_and_packages_are_left_out(tmp_path: Path) -> None:
    for name in ("test", "site-packages/films"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.py").write_text('"""Not the library\'s."""')
    assert sentences(tmp_path) == []
