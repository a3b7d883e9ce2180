"""`bench` reports every method beside dense fine-tuning; how fast any is, is not for a test."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from pst_core.__main__ import cli
from pst_core.bench import report
from pst_core.bench.contest import SPARSITY, Trainee, random_batch, random_model, train_by
from pst_core.bench.memory import Peak
from pst_core.bench.shapes import CONTENDERS, Contender, Workload
from pst_core.bench.step import Timing
from pst_core.errors import PstError
from pst_core.layers import SparseLinear

TINY = Workload(model="tiny", tokens=64, rounds=2, dropout=0.1, device="cpu")
OPTIONS = ["--model", "tiny", "--tokens", "64", "--device", "cpu", "--json"]


def bench(*words: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["bench", *words, *OPTIONS], catch_exceptions=False)
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def refused(*words: str) -> PstError:
    error = CliRunner().invoke(cli, ["bench", "step", *words]).exception
    assert isinstance(error, PstError)
    return error


def tiny(contender: Contender) -> Trainee:
    return train_by(contender, random_model(TINY))


def trained(trainee: Trainee) -> set[str]:
    named = trainee.model.named_parameters()
    return {name for name, parameter in named if parameter.requires_grad}


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    return bench("step", "--rounds", "2")


def test_every_method_has_its_steps_and_a_ratio(steps: dict[str, Any]) -> None:
    (measured,) = steps["measured"]
    assert tuple(measured["methods"]) == CONTENDERS
    for method in measured["methods"].values():
        assert len(method["wall_seconds"]) == len(method["cpu_seconds"]) == 2
        assert method["wall_ratio"] > 0


def test_dense_is_itself(steps: dict[str, Any]) -> None:
    dense = steps["measured"][0]["methods"]["dense"]
    assert dense["wall_ratio"] == dense["cpu_ratio"] == 1


def test_what_it_ran_on_is_told_without_names(steps: dict[str, Any]) -> None:
    assert set(steps["machine"]) == {"cpu", "device", "flags", "threads", "torch"}


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    mine, dense = Timing([2.0, 9.0, 3.0], []), Timing([1.0, 1.0, 3.0], [])
    assert mine.ratio_to(dense, "wall") == 2.0


def test_dense_is_measured_though_nobody_asked() -> None:
    document = bench("step", "--rounds", "1", "--methods", "pst")
    assert list(document["measured"][0]["methods"]) == ["dense", "pst"]


def test_memory_is_measured_in_a_fresh_process() -> None:
    # One process is enough to show it, and takes seconds to load torch.
    document = bench("memory", "--rounds", "1", "--methods", "dense")
    (dense,) = document["measured"][0]["methods"].values()
    (peak,) = dense["peaks"]
    assert dense["ratio"] == 1
    assert peak["peak_bytes"] > peak["loaded_bytes"] > 0
    assert dense["median_above_bytes"] == peak["peak_bytes"] - peak["loaded_bytes"]


def test_memory_takes_the_median_above_the_model() -> None:
    dense = [Peak(loaded_bytes=10, peak_bytes=10 + above) for above in (4, 40, 8)]
    pst = [Peak(loaded_bytes=20, peak_bytes=20 + above) for above in (2, 1, 2)]
    methods: Any = report.memory(TINY, {"dense": dense, "pst": pst})["methods"]
    assert methods["pst"]["ratio"] == 0.25


def test_tables_have_a_row_for_each_method() -> None:
    timings: dict[Contender, Timing] = {"dense": Timing([1.0], [1.0]), "pst": Timing([1.0], [1.0])}
    peaks: dict[Contender, list[Peak]] = {"dense": [Peak(loaded_bytes=1, peak_bytes=2)]}
    assert report.step_table(TINY, timings).row_count == 2
    assert report.memory_table(TINY, peaks).row_count == 1


def test_masked_methods_run_at_the_sparsity_of_the_paper() -> None:
    for contender in ("pst", "movement"):
        layers = [
            each for each in tiny(contender).model.modules() if isinstance(each, SparseLinear)
        ]
        assert len(layers) == 12
        assert all(layer.sparsity == SPARSITY for layer in layers)


def test_of_frozen_models_only_factors_or_adapters_and_the_head_train() -> None:
    pst, lora = trained(tiny("pst")), trained(tiny("lora"))
    assert {name.rpartition(".")[2] for name in pst if "encoder" in name} == set("UVABRC")
    assert all("lora_" in name for name in lora if "encoder" in name)
    head = {"bert.pooler.dense.weight", "classifier.weight"}
    assert head <= pst & lora
    assert not any("embeddings" in name for name in pst | lora)


@pytest.mark.parametrize("contender", ["dense", "movement"])
def test_dense_and_movement_train_everything(contender: Contender) -> None:
    trainee = tiny(contender)
    assert trained(trainee) == {name for name, _ in trainee.model.named_parameters()}


@pytest.mark.parametrize("contender", CONTENDERS)
def test_a_step_reaches_all_that_trains(contender: Contender) -> None:
    trainee = tiny(contender)
    before = {name: each.detach().clone() for name, each in trainee.model.named_parameters()}
    for _ in range(2):
        trainee.step(random_batch(TINY))
    after = dict(trainee.model.named_parameters())
    still = {name for name, each in before.items() if each.equal(after[name])}
    # Softmax does not see what a key's bias adds to a whole row of it.
    assert not {name for name in trained(trainee) & still if not name.endswith("key.bias")}
    assert not {name for name in before if name not in trained(trainee)} - still


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--model", "huge"], "--model"),
        (["--tokens", "33"], "--tokens"),
        (["--tokens", "many"], "--tokens"),
        (["--rounds", "0"], "--rounds"),
        (["--methods", "pst,magic"], "--methods"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_a_wrong_option_is_named(words: list[str], field: str) -> None:
    assert refused(*words).field == field
