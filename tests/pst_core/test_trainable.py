"""Under each method and preset exactly the right parameters train, each at its own rate."""

from collections.abc import Callable, Sequence

import pytest
from torch import nn
from transformers import PreTrainedModel

from pst_core.architectures import survey
from pst_core.convert import Converted, Pruning, convert, head_parameters
from pst_core.lora import add_adapters
from pst_core.recipes import PRESETS, Hyperparameters, Preset
from pst_core.schedule import learning_rate_factor
from pst_core.spec import Method
from pst_core.trainable import adapter_groups, factor_groups, full_groups, score_rate
from pst_core.trainer import ParameterGroup
from tests.pst_core import tiny

RATES = {
    "learning_rate": 1e-3,
    "score_learning_rate": 2e-3,
    "head_learning_rate": 3e-3,
    "norm_learning_rate": 4e-3,
    "dense_learning_rate": 5e-3,
    "adapter_learning_rate": 6e-3,
    "rank": 2,
    "score_rank": 2,
}
HEAD = {
    "classifier.weight",
    "classifier.bias",
    "bert.pooler.dense.weight",
    "bert.pooler.dense.bias",
}


def recipe(preset: Preset = "paper", **changes: object) -> Hyperparameters:
    return Hyperparameters.model_validate({**PRESETS[preset], **RATES, **changes})


def factors(sparse: Converted, which: str = "UVABRC") -> set[str]:
    return {f"{name}.{factor}" for name in sparse.layers for factor in which}


def vectors(model: PreTrainedModel) -> set[str]:
    """The biases and norms of a model that is not converted yet."""
    return {name for name, parameter in model.named_parameters() if parameter.ndim == 1}


def rates(model: nn.Module, groups: Sequence[ParameterGroup]) -> dict[str, float]:
    """The rate of every parameter in the groups, by its name; and that these alone train."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in groups for parameter in group.parameters]
    found = {
        names[id(parameter)]: group.learning_rate
        for group in groups
        for parameter in group.parameters
    }
    assert len(found) == len(parameters)
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    return found


def of_pst(model: PreTrainedModel, hyper: Hyperparameters, *, new_head: bool) -> dict[str, float]:
    """The rates under the method `pst`."""
    sparse = convert(model, Pruning(method="pst"), hyper)
    groups = factor_groups(model, sparse, hyper, new_head=new_head, total_steps=100)
    return rates(model, groups)


def layers_of(model: PreTrainedModel) -> Converted:
    return convert(model, Pruning(method="pst"), recipe())


def test_under_the_preset_paper_factors_and_head_train() -> None:
    expected = factors(layers_of(tiny.classifier())) | HEAD
    assert of_pst(tiny.classifier(), recipe("paper"), new_head=True).keys() == expected


def test_under_the_preset_paper_released_the_factors_alone_train() -> None:
    expected = factors(layers_of(tiny.classifier()))
    assert of_pst(tiny.classifier(), recipe("paper-released"), new_head=True).keys() == expected


def test_under_the_default_factors_head_biases_and_norms_train() -> None:
    model = tiny.classifier()
    expected = factors(layers_of(tiny.classifier())) | HEAD | vectors(model)
    assert of_pst(model, recipe("default"), new_head=True).keys() == expected


def test_a_head_that_does_not_train_keeps_its_biases_too() -> None:
    model = tiny.classifier()
    expected = factors(layers_of(tiny.classifier())) | (vectors(model) - HEAD)
    found = of_pst(model, recipe("default", train_head=False), new_head=True)
    assert found.keys() == expected


@pytest.mark.parametrize("make", [tiny.language_model, tiny.llama], ids=["tied", "untied"])
@pytest.mark.parametrize("preset", ["paper", "paper-released"])
def test_of_a_language_model_the_factors_alone_train(
    make: Callable[[], PreTrainedModel], preset: Preset
) -> None:
    found = of_pst(make(), recipe(preset), new_head=False)
    assert found.keys() == factors(layers_of(make()))


@pytest.mark.parametrize("make", [tiny.language_model, tiny.llama], ids=["tied", "untied"])
def test_under_the_default_a_language_models_embeddings_and_head_stay_frozen(
    make: Callable[[], PreTrainedModel],
) -> None:
    model = make()
    expected = factors(layers_of(make())) | vectors(model)
    found = of_pst(model, recipe("default"), new_head=False)
    assert found.keys() == expected
    assert not any("lm_head" in name or "wte" in name or "embed" in name for name in found)


def test_a_pretrained_head_keeps_its_bias() -> None:
    model = tiny.llama()
    model.set_submodule("lm_head", nn.Linear(32, 20, bias=True))
    assert "lm_head.bias" not in of_pst(model, recipe("default"), new_head=False)


def test_updates_scores_head_and_vectors_have_their_own_rates() -> None:
    sparse, model = layers_of(tiny.classifier()), tiny.classifier()
    expected = dict.fromkeys(vectors(model), 4e-3)
    expected |= dict.fromkeys(HEAD, 3e-3)
    expected |= dict.fromkeys(factors(sparse, "UV"), 1e-3)
    expected |= dict.fromkeys(factors(sparse, "ABRC"), 2e-3)
    assert of_pst(model, recipe("default", rate_ratio=1.0), new_head=True) == expected


def test_factors_that_start_at_random_learn_slower_by_the_ratio() -> None:
    sparse = layers_of(tiny.classifier())
    found = of_pst(tiny.classifier(), recipe("default", rate_ratio=10.0), new_head=True)
    assert {found[name] for name in factors(sparse, "U")} == {1e-4}
    assert {found[name] for name in factors(sparse, "A")} == {2e-4}
    assert {found[name] for name in factors(sparse, "V")} == {1e-3}
    assert {found[name] for name in factors(sparse, "BRC")} == {2e-3}


def test_the_reported_rate_is_that_of_the_updates() -> None:
    hyper, model = recipe("default"), tiny.classifier()
    sparse = convert(model, Pruning(method="pst"), hyper)
    groups = factor_groups(model, sparse, hyper, new_head=True, total_steps=10)
    assert groups[0].learning_rate == hyper.learning_rate


@pytest.mark.parametrize("method", ["dense", "magnitude", "random"])
def test_where_weights_train_all_do_and_the_head_at_its_own_rate(method: Method) -> None:
    hyper, model = recipe(), tiny.classifier()
    sparse = Converted({}) if method == "dense" else convert(model, Pruning(method=method), hyper)
    found = rates(model, full_groups(model, sparse, hyper, new_head=True, total_steps=100))
    names = {name for name, _ in tiny.classifier().named_parameters()}
    assert found == dict.fromkeys(names, 5e-3) | dict.fromkeys(HEAD, 3e-3)


def test_under_movement_the_scores_train_too_at_their_rate() -> None:
    hyper, model = recipe(), tiny.classifier()
    sparse = convert(model, Pruning(method="movement"), hyper)
    found = rates(model, full_groups(model, sparse, hyper, new_head=True, total_steps=100))
    names = {name for name, _ in tiny.classifier().named_parameters()}
    assert found == (
        dict.fromkeys(names, 5e-3)
        | dict.fromkeys(HEAD, 3e-3)
        | dict.fromkeys(factors(sparse, "S"), 2e-3)
    )


def test_all_of_a_language_model_trains_at_one_rate() -> None:
    model = tiny.language_model()
    found = rates(
        model, full_groups(model, Converted({}), recipe(), new_head=False, total_steps=100)
    )
    names = {name for name, _ in model.named_parameters()}
    assert found == dict.fromkeys(names, 5e-3)


@pytest.mark.parametrize("new_head", [True, False])
def test_under_lora_adapters_train_and_a_head_that_is_new(*, new_head: bool) -> None:
    hyper, model = recipe(), tiny.classifier() if new_head else tiny.llama()
    layers = survey(model).prunable
    add_adapters(model, layers, hyper)
    found = rates(model, adapter_groups(model, hyper, new_head=new_head))
    adapters = {f"{name}.lora_{kind}.default.weight" for name in layers for kind in "AB"}
    expected = dict.fromkeys(adapters, 6e-3)
    assert found == expected | (dict.fromkeys(HEAD, 3e-3) if new_head else {})


def test_the_head_is_the_classifier_and_the_pooler() -> None:
    assert head_parameters(tiny.classifier()).keys() == HEAD


def sum_of_rates(hyper: Hyperparameters, steps: int) -> float:
    warmup, decay = hyper.learning_rate_warmup, hyper.learning_rate_decay
    factors = (
        learning_rate_factor(step, steps, warmup=warmup, decay=decay)
        for step in range(1, steps + 1)
    )
    return score_rate(hyper, steps) * sum(factors)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1_000, 10_000])
def test_the_scores_rates_of_a_long_run_sum_to_the_travel(steps: int, decay: str) -> None:
    hyper = recipe(score_learning_rate=0.01, score_travel=2.5, learning_rate_decay=decay)
    assert sum_of_rates(hyper, steps) == pytest.approx(2.5)


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_a_run_too_short_for_the_travel_has_the_recipes_rate(steps: int) -> None:
    hyper = recipe(score_learning_rate=0.01, score_travel=2.5)
    assert score_rate(hyper, steps) == 0.01
    assert sum_of_rates(hyper, steps) < 2.5


def test_without_a_travel_the_scores_rate_is_the_recipes() -> None:
    assert score_rate(recipe(), 10) == score_rate(recipe(), 10_000) == 2e-3
