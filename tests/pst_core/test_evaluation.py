"""A finished checkpoint scores again what it scored, and what other data gives."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pst_core.__main__ import cli
from pst_core.errors import SpecError
from pst_core.evaluation import evaluate, recorded_spec
from pst_core.references import DataSource
from pst_core.report import Scores
from tests.pst_core import tiny
from tests.pst_core.exports import Export, run


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("export")
    changes = {"hyperparameters": {"epochs": 1, "batch_size": 16}}
    return run(folder, folder / "out", changes=changes)


@pytest.mark.parametrize("name", ["dense", "packed"])
def test_a_checkpoint_scores_again_what_it_scored(export: Export, name: str) -> None:
    folder = export.out / name
    found = evaluate(folder, recorded_spec(folder), export.sources.dataset)
    assert found == export.report.outcome.evaluation.test


def test_it_can_be_scored_on_other_data(export: Export, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    tiny.save_csv(tmp_path / "data" / "train.csv", tiny.toy_rows(4))
    tiny.save_csv(tmp_path / "data" / "test.csv", tiny.toy_rows(10, seed=5))
    spec = tiny.spec(tmp_path, dataset=f"file:{tmp_path / 'data'}")
    found = evaluate(export.out / "packed", spec, DataSource(path=tmp_path / "data"))
    assert found.rows == 10


def test_data_of_other_classes_is_refused(export: Export, tmp_path: Path) -> None:
    rows = [(text, {"pos": "good", "neg": "bad"}[label]) for text, label in tiny.toy_rows(40)]
    source = DataSource(path=tiny.save_csv(tmp_path / "other.csv", rows))
    spec = tiny.spec(tmp_path, dataset="file:other.csv")
    with pytest.raises(SpecError, match="classes are neg, pos; the data's are bad, good") as caught:
        evaluate(export.out / "dense", spec, source)
    assert caught.value.field == "dataset.columns.label"


def test_a_folder_that_does_not_say_its_data_needs_a_spec(export: Export) -> None:
    with pytest.raises(SpecError, match=r"has no pst\.json") as caught:
        recorded_spec(export.sources.model)
    assert "Give a spec" in caught.value.remedy


def test_the_command_prints_scores_for_programs(export: Export) -> None:
    done = CliRunner().invoke(cli, ["evaluate", str(export.out / "packed"), "--json"])
    assert done.exit_code == 0
    found = Scores.model_validate(json.loads(done.stdout))
    assert found == export.report.outcome.evaluation.test


def test_the_command_prints_scores_for_people(export: Export) -> None:
    done = CliRunner().invoke(cli, ["evaluate", str(export.out / "packed")])
    assert "40 rows of the test split" in done.stdout
    assert "matthews" in done.stdout
