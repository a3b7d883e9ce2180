"""The dense yardstick that another job has trained is worth one that is trained on the spot."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pst_core.comparable import disagreements
from pst_core.errors import BaselineMismatchError, BaselineNotFoundError
from pst_core.events import AnsweredEvent, ProgressEvent
from pst_core.prepare import Sources
from pst_core.report import Report
from pst_core.spec import CompressionSpec
from pst_core.verify import verify_export
from tests.pst_core import tiny
from tests.pst_core.exports import sha256s
from tests.pst_core.interrupted import Case

JOB_ID = "job_" + "1" * 32
HYPER = {"epochs": 0.4, "batch_size": 16, "rank": 2, "score_rank": 2}
STEPS = 8  # with a splice for each of 160 rows, for 0.4 epochs
# Its logits are distilled: they decide every weight.
SPEC: dict[str, Any] = {"preset": "default", "hyperparameters": HYPER, "max_drop": 5.0}
DENSE: dict[str, Any] = {
    "preset": "default",
    "hyperparameters": HYPER,
    "method": "dense",
    "sparsity": None,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """With the checkpoint of a dense job."""
    found = tiny.sources(tmp_path_factory.mktemp("sources"))
    dense = Case(spec(found, DENSE), found, tmp_path_factory.mktemp("dense"))
    dense.attempt()
    return replace(found, baseline=dense.out / "dense")


def spec(sources: Sources, changes: dict[str, Any]) -> CompressionSpec:
    return tiny.spec(sources.model.parent, **changes)


def case(sources: Sources, folder: Path, **changes: object) -> Case:
    return Case(spec(sources, {**SPEC, "baseline": JOB_ID, **changes}), sources, folder)


def compared(report: Report) -> list[str]:
    outcome = report.outcome
    return [
        json.dumps(part and part.model_dump(mode="json"))
        for part in (outcome.baseline, outcome.difference, outcome.gate, outcome.evaluation)
    ]


def test_it_scores_differs_and_teaches_as_one_that_is_trained_on_the_spot(
    sources: Sources, tmp_path: Path
) -> None:
    there = case(sources, tmp_path / "there")
    here = case(sources, tmp_path / "here", baseline="train")
    taken, trained = there.attempt(), here.attempt()

    assert taken.outcome.gate is not None
    assert compared(taken) == compared(trained)
    weights = [sha256s(each.out)["dense/model.safetensors"] for each in (there, here)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("baseline", ["train", JOB_ID])
def test_it_tells_how_much_it_has_answered(baseline: str, sources: Sources, tmp_path: Path) -> None:
    job = case(sources, tmp_path, baseline=baseline)
    report = job.attempt()

    told = job.told(AnsweredEvent)
    rows = [event.rows for event in told]
    # Each example, and one splice of each.
    assert {event.total_rows for event in told} == {2 * report.outcome.data.rows["train"]}
    assert rows == sorted(set(rows))
    assert len(rows) > 1
    assert rows[-1] == told[-1].total_rows


def test_nothing_is_trained_for_it(sources: Sources, tmp_path: Path) -> None:
    job = case(sources, tmp_path)
    report = job.attempt()

    steps = [(each.stage, each.total_steps) for each in job.told(ProgressEvent)]
    assert set(steps) == {("main", STEPS)}
    assert report.baseline_cost is None


def test_a_run_that_is_stopped_ends_with_the_same_bytes_and_without_the_checkpoint(
    sources: Sources, tmp_path: Path
) -> None:
    undisturbed = case(sources, tmp_path / "one")
    undisturbed.attempt()
    stopped = case(sources, tmp_path / "two")
    stopped.stop_after(2)
    # All that is needed of it lies in the snapshot.
    stopped.sources = replace(sources, baseline=None)
    stopped.attempt()

    assert sha256s(stopped.out) == sha256s(undisturbed.out)


def test_a_checkpoint_is_verified_without_it(sources: Sources, tmp_path: Path) -> None:
    job = case(sources, tmp_path)
    job.attempt()

    verify_export(job.out, job.spec, replace(sources, baseline=None))


def test_one_of_other_rows_is_refused(sources: Sources, tmp_path: Path) -> None:
    rows = tiny.toy_rows(240, seed=1)
    tiny.save_csv(tmp_path / "toy.csv", rows)
    other = replace(sources, dataset=replace(sources.dataset, path=tmp_path / "toy.csv"))

    with pytest.raises(BaselineMismatchError, match="another dataset's rows") as refused:
        case(other, tmp_path).attempt()
    assert refused.value.field == "baseline"


def test_there_is_none_without_the_service(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(BaselineNotFoundError, match=JOB_ID):
        case(replace(sources, baseline=None), tmp_path).attempt()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        # How each was trained is its own affair.
        ({"sparsity": 0.9, "method": "magnitude", "hyperparameters": {"epochs": 2}}, []),
        ({"seed": 1}, ["seed"]),
        ({"metric": "f1"}, ["metric"]),
        ({"model": "pkg:another", "dataset": "pkg:other"}, ["model", "dataset"]),
        ({"hyperparameters": {"max_length": 17}}, ["hyperparameters.max_length"]),
    ],
)
def test_what_must_agree_is_told(changes: dict[str, object], names: list[str]) -> None:
    common = {"model": "pkg:m", "dataset": "pkg:d"}
    dense = CompressionSpec.model_validate({**common, "method": "dense"})
    document = {**common, "sparsity": 0.5, "baseline": JOB_ID, **changes}

    assert list(disagreements(CompressionSpec.model_validate(document), dense)) == names


def test_what_prunes_is_no_yardstick() -> None:
    pruned = CompressionSpec.model_validate({"model": "pkg:m", "dataset": "pkg:d", "sparsity": 0.5})

    assert list(disagreements(pruned, pruned)) == ["method"]
