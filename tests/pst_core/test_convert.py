"""Exactly the found matrices become sparse layers, and the model still computes the same."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from pst_core.convert import Converted, Pruning, convert, head_parameters
from pst_core.errors import UnsupportedModelError
from pst_core.layers import MaskedLinear, PSTLinear, SparseLinear
from pst_core.masks import NOfM
from pst_core.recipes import Hyperparameters
from pst_core.spec import Method
from tests.pst_core.families import FAMILIES, Family, each_family, outputs

HYPER = Hyperparameters(rank=2, score_rank=3, alpha1=0.5, alpha2=0.25, beta=2.0)
PST = Pruning(method="pst")


def bert() -> PreTrainedModel:
    return FAMILIES["bert"].build()


def pruned_by_part(converted: Converted, name: str) -> list[int]:
    layer = converted.layers[name]
    return [int((~part).sum()) for part in layer.mask().split(layer.selector.parts)]


@each_family
def test_the_blocks_matrices_become_sparse_layers_and_nothing_else_does(family: Family) -> None:
    model = family.build()
    layers = convert(model, PST, HYPER).layers
    found = {name: m for name, m in model.named_modules() if isinstance(m, SparseLinear)}
    assert found == layers
    assert list(found) == list(layers) == family.names()


@each_family
def test_everything_else_stays_the_same_object(family: Family) -> None:
    model, inside = family.build(), tuple(f"{name}." for name in family.names())
    before = {n: p for n, p in model.named_parameters() if not n.startswith(inside)}
    convert(model, PST, HYPER)
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())


@each_family
@pytest.mark.parametrize("method", ["pst", "magnitude"])
def test_a_converted_model_computes_what_the_plain_one_does(family: Family, method: Method) -> None:
    model = family.build()
    before = outputs(model)
    convert(model, Pruning(method=method), HYPER)
    torch.testing.assert_close(outputs(model), before, rtol=1e-5, atol=1e-6)


@each_family
def test_every_factor_gets_a_gradient_within_three_steps(family: Family) -> None:
    model = family.build()
    converted = convert(model, PST, HYPER)
    converted.set_sparsity(0.5)
    factors = {
        f"{name}.{factor}": layer.get_parameter(factor)
        for name, layer in converted.layers.items()
        for factor in "UVABRC"
    }
    optimizer = torch.optim.AdamW(factors.values(), lr=1e-3)
    # A weighted sum: norms make the plain one the same for all weights.
    weights = torch.randn_like(outputs(model))
    moved = set()
    for _ in range(3):
        optimizer.zero_grad()
        (outputs(model) * weights).sum().backward()
        moved |= {name for name, factor in factors.items() if _is_moved(factor)}
        optimizer.step()
    assert moved == factors.keys()


def _is_moved(factor: nn.Parameter) -> bool:
    assert factor.grad is not None
    return bool(factor.grad.any())


def test_conversion_decides_nothing_of_what_trains_outside_the_layers() -> None:
    model, inside = bert(), tuple(f"{name}." for name in FAMILIES["bert"].names())
    model.requires_grad_(requires_grad=False)
    model.get_parameter("classifier.weight").requires_grad = True
    convert(model, PST, HYPER)
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trains if not name.startswith(inside)} == {"classifier.weight"}


def test_the_layers_are_the_methods() -> None:
    pst = convert(bert(), PST, HYPER).layers.values()
    magnitude = convert(bert(), Pruning(method="magnitude"), HYPER).layers.values()
    assert {type(layer) for layer in pst} == {PSTLinear}
    assert {type(layer) for layer in magnitude} == {MaskedLinear}


def test_layers_whose_weight_is_stored_transposed_are_told() -> None:
    assert convert(FAMILIES["gpt2"].build(), PST, HYPER).transposed == set(FAMILIES["gpt2"].names())
    assert not convert(bert(), PST, HYPER).transposed


def test_a_relative_recipe_counts_in_one_deviation_of_all_that_is_pruned() -> None:
    hyper, pruning = Hyperparameters(relative=True), Pruning(method="pst", exclude=("*.query",))
    layers = convert(bert(), pruning, hyper).layers.values()
    entries = torch.cat([layer.get_parameter("weight").flatten() for layer in layers])
    (found,) = {layer.alpha2 for layer in layers if isinstance(layer, PSTLinear)}
    assert found == pytest.approx(float(entries.std()), rel=1e-3)


def test_patterns_of_names_reach_the_survey() -> None:
    pruning = Pruning(method="pst", include=["*.layer.0.*"], exclude=["*.output.*"])
    converted = convert(bert(), pruning, HYPER)
    assert len(converted.layers) == 4
    assert all(".layer.0." in name and ".output." not in name for name in converted.layers)
    assert converted.skipped["bert.encoder.layer.1.output.dense"] == "no pattern of include matches"


@pytest.mark.parametrize("family", ["gpt2", "phi3"])
@pytest.mark.parametrize("sparsity", [0.3, 0.77])
def test_each_fused_matrix_loses_exactly_its_share(family: str, sparsity: float) -> None:
    converted = convert(FAMILIES[family].build(), PST, HYPER)
    converted.set_sparsity(sparsity)
    fused = {
        "gpt2": {"h.0.attn.c_attn": [32 * 32] * 3},
        "phi3": {
            "model.layers.0.self_attn.qkv_proj": [32 * 32, 16 * 32, 16 * 32],
            "model.layers.0.mlp.gate_up_proj": [48 * 32, 48 * 32],
        },
    }[family]
    for name, sizes in fused.items():
        assert pruned_by_part(converted, name) == [int(sparsity * size) for size in sizes]


def test_the_sparsity_is_set_in_every_layer() -> None:
    converted = convert(bert(), PST, HYPER)
    converted.set_sparsity(0.25)
    assert {layer.sparsity for layer in converted.layers.values()} == {0.25}


def test_a_pattern_keeps_two_of_every_four_inputs() -> None:
    converted = convert(bert(), Pruning(method="pst", pattern=NOfM(2, 4)), HYPER)
    converted.set_sparsity(0.5)
    for layer in converted.layers.values():
        assert (layer.mask().view(-1, 4).sum(1) == 2).all()


def test_a_matrix_that_a_pattern_does_not_fit_is_named() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"layer\.0\.output\.dense has 50 input"
    ) as caught:
        convert(_with_50_inputs(), Pruning(method="pst", pattern=NOfM(2, 4)), HYPER)
    assert caught.value.field == "pattern"
    assert "Add bert.encoder.layer.0.output.dense to exclude" in caught.value.remedy


def test_a_model_that_is_refused_is_left_as_it_was() -> None:
    model = _with_50_inputs()
    before = dict(model.named_modules())
    with pytest.raises(UnsupportedModelError):
        convert(model, Pruning(method="pst", pattern=NOfM(2, 4)), HYPER)
    assert dict(model.named_modules()) == before


def test_an_excluded_matrix_need_not_fit_the_pattern() -> None:
    pruning = Pruning(method="pst", pattern=NOfM(2, 4), exclude=["*.[01].output.dense"])
    assert len(convert(_with_50_inputs(), pruning, HYPER).layers) == 10


def _with_50_inputs() -> PreTrainedModel:
    """A BERT whose last matrix of a block has a number of inputs that 4 does not divide."""
    model = bert()
    for block in range(2):
        model.set_submodule(f"bert.encoder.layer.{block}.intermediate.dense", nn.Linear(32, 50))
        model.set_submodule(f"bert.encoder.layer.{block}.output.dense", nn.Linear(50, 32))
    return model


def test_a_model_converts_only_once() -> None:
    model = bert()
    convert(model, PST, HYPER)
    with pytest.raises(UnsupportedModelError, match="converted already"):
        convert(model, PST, HYPER)


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", ("bert.pooler.dense", "classifier")),
        ("roberta", ("classifier.dense", "classifier.out_proj")),
        ("distilbert", ("pre_classifier", "classifier")),
    ],
)
def test_the_head_is_the_pooler_and_the_classifier(family: str, head: tuple[str, ...]) -> None:
    expected = {f"{name}.{kind}" for name in head for kind in ("weight", "bias")}
    assert head_parameters(FAMILIES[family].build()).keys() == expected


def test_a_tied_lm_head_is_no_head() -> None:
    assert not head_parameters(FAMILIES["gpt2-lm"].build())


def test_an_lm_head_of_its_own_is_one() -> None:
    assert head_parameters(FAMILIES["llama"].build()).keys() == {"lm_head.weight"}
