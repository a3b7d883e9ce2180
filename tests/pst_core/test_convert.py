"""Exactly the blocks' matrices become PST layers, and plain linears again."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import (
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from pst_core.convert import (
    convert,
    head_parameters,
    materialize,
    prunable_linears,
    set_sparsity,
)
from pst_core.errors import UnsupportedModelError
from pst_core.layers import PSTLinear
from pst_core.spec import Hyperparameters
from tests.pst_core import tiny

BERT_BLOCK = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
DISTILBERT_BLOCK = (
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "ffn.lin1",
    "ffn.lin2",
)
HYPERPARAMETERS = Hyperparameters(rank=2, score_rank=3, alpha1=0.5, alpha2=0.25, beta=2.0)
Family = Callable[[], PreTrainedModel]
INPUT_IDS = torch.arange(4, 16).view(2, 6)


def roberta() -> PreTrainedModel:
    torch.manual_seed(0)
    return RobertaForSequenceClassification(
        RobertaConfig(
            hidden_size=32,
            intermediate_size=48,
            max_position_embeddings=24,
            num_attention_heads=2,
            num_hidden_layers=2,
            vocab_size=32,
        )
    )


def distilbert() -> PreTrainedModel:
    torch.manual_seed(0)
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            dim=32, hidden_dim=48, max_position_embeddings=24, n_heads=2, n_layers=2, vocab_size=32
        )
    )


def bert() -> PreTrainedModel:
    return tiny.classifier(layers=2)


def without_blocks() -> PreTrainedModel:
    """A GPT-2, whose blocks hold no `nn.Linear` but `Conv1D`."""
    return GPT2ForSequenceClassification(
        GPT2Config(
            bos_token_id=0,
            eos_token_id=0,
            n_embd=32,
            n_head=2,
            n_layer=1,
            n_positions=8,
            vocab_size=9,
        )
    )


def names(prefix: str, block: tuple[str, ...]) -> list[str]:
    return [f"{prefix}.{layer}.{name}" for layer in range(2) for name in block]


BUILDERS = [
    pytest.param(bert, names("bert.encoder.layer", BERT_BLOCK), id="bert"),
    pytest.param(roberta, names("roberta.encoder.layer", BERT_BLOCK), id="roberta"),
    pytest.param(
        distilbert, names("distilbert.transformer.layer", DISTILBERT_BLOCK), id="distilbert"
    ),
]
each_family = pytest.mark.parametrize("family", [bert, roberta, distilbert])


def converted(model: PreTrainedModel, *, sparsity: float = 0.0) -> dict[str, PSTLinear]:
    """PST layers with factors as if trained, dropout off."""
    layers = convert(model, HYPERPARAMETERS)
    for layer in layers.values():
        for factor in (layer.V, layer.B, layer.R, layer.C):
            nn.init.normal_(factor, std=0.02)
    set_sparsity(layers, sparsity)
    model.eval()
    return layers


@pytest.mark.parametrize(("family", "expected"), BUILDERS)
def test_exactly_the_blocks_matrices_are_converted(family: Family, expected: list[str]) -> None:
    model = family()
    layers = convert(model, HYPERPARAMETERS)
    found = [name for name, module in model.named_modules() if isinstance(module, PSTLinear)]
    assert found == list(layers) == expected


def test_a_model_without_a_head_is_named_from_its_own_root() -> None:
    found = prunable_linears(BertModel(tiny.bert_config()))
    assert list(found) == names("encoder.layer", BERT_BLOCK)


@each_family
def test_everything_outside_the_blocks_stays_the_same_object(family: Family) -> None:
    model = family()
    inside = tuple(f"{name}." for name in prunable_linears(model))
    before = {n: p for n, p in model.named_parameters() if not n.startswith(inside)}
    convert(model, HYPERPARAMETERS)
    after = dict(model.named_parameters())
    assert {name for name in before if "embeddings" in name}
    assert {name for name in before if "norm" in name.lower()}
    assert {name for name in before if "classifier" in name}
    assert all(after[name] is parameter for name, parameter in before.items())


@each_family
def test_weights_and_biases_are_carried_over(family: Family) -> None:
    model = family()
    before = tiny.state(model)
    convert(model, HYPERPARAMETERS)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@each_family
def test_the_converted_model_computes_what_the_pretrained_one_does(family: Family) -> None:
    model = family().eval()
    before = model(input_ids=INPUT_IDS).logits
    convert(model, HYPERPARAMETERS)
    assert torch.equal(model(input_ids=INPUT_IDS).logits, before)


def test_ranks_and_weights_are_the_hyperparameters() -> None:
    for layer in convert(bert(), HYPERPARAMETERS).values():
        assert (layer.U.shape[1], layer.V.shape[0]) == (2, 2)
        assert (layer.A.shape[1], layer.B.shape[0]) == (3, 3)
        assert (layer.alpha1, layer.alpha2, layer.beta) == (0.5, 0.25, 2.0)


@pytest.mark.parametrize(
    ("family", "head"),
    [
        (bert, ("bert.pooler.dense", "classifier")),
        (roberta, ("classifier.dense", "classifier.out_proj")),
        (distilbert, ("pre_classifier", "classifier")),
    ],
)
def test_the_head_is_the_pooler_and_the_classifier(family: Family, head: tuple[str, ...]) -> None:
    expected = {f"{name}.{kind}" for name in head for kind in ("weight", "bias")}
    assert head_parameters(family()).keys() == expected


@each_family
def test_only_factors_and_head_require_gradients(family: Family) -> None:
    model = family()
    head = head_parameters(model).keys()
    factors = {f"{name}.{f}" for name in convert(model, HYPERPARAMETERS) for f in "UVABRC"}
    assert {n for n, p in model.named_parameters() if p.requires_grad} == factors | head


@each_family
def test_every_factor_gets_a_gradient_within_three_steps(family: Family) -> None:
    model = family()
    layers = convert(model, HYPERPARAMETERS)
    set_sparsity(layers, 0.5)
    factors = {
        f"{name}.{factor}": getattr(layer, factor)
        for name, layer in layers.items()
        for factor in "UVABRC"
    }
    optimizer = torch.optim.AdamW(factors.values(), lr=1e-3)
    moved = set()
    for _ in range(3):
        optimizer.zero_grad()
        logits = model(input_ids=INPUT_IDS).logits
        nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        moved |= {name for name, factor in factors.items() if factor.grad.any()}
        optimizer.step()
    assert moved == factors.keys()


def test_a_model_converts_only_once() -> None:
    model = bert()
    convert(model, HYPERPARAMETERS)
    with pytest.raises(UnsupportedModelError, match="converted already"):
        convert(model, HYPERPARAMETERS)


def test_a_model_with_nothing_to_prune_is_refused_with_what_works() -> None:
    with pytest.raises(UnsupportedModelError, match=r"GPT2.*Use an encoder") as caught:
        convert(without_blocks(), HYPERPARAMETERS)
    assert caught.value.field == "model"


def test_a_refused_model_is_left_trainable() -> None:
    model = without_blocks()
    with pytest.raises(UnsupportedModelError):
        convert(model, HYPERPARAMETERS)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_sparsity_is_set_in_every_layer() -> None:
    layers = convert(bert(), HYPERPARAMETERS)
    set_sparsity(layers, 0.25)
    assert {layer.sparsity for layer in layers.values()} == {0.25}


@each_family
def test_materialized_layers_are_plain_linears_again(family: Family) -> None:
    model = family()
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    layers = converted(model, sparsity=0.5)
    materialize(model, layers)
    assert all(type(model.get_submodule(name)) is nn.Linear for name in layers)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before


@each_family
def test_materializing_keeps_the_logits(family: Family) -> None:
    model = family()
    layers = converted(model, sparsity=0.5)
    before = model(input_ids=INPUT_IDS).logits
    materialize(model, layers)
    # W' is rounded once where the forward rounded at each addition.
    torch.testing.assert_close(model(input_ids=INPUT_IDS).logits, before, rtol=1e-5, atol=1e-6)


def test_materialized_weights_are_the_exact_ones_under_the_mask() -> None:
    model = bert()
    layers = converted(model, sparsity=0.5)
    expected = {
        f"{name}.weight": layer.exact_weight().where(layer.mask(), 0.0)
        for name, layer in layers.items()
    }
    materialize(model, layers)
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_the_masks_are_those_of_the_layers_by_state_dict_key() -> None:
    model = bert()
    layers = converted(model, sparsity=0.5)
    expected = {f"{name}.weight": layer.mask() for name, layer in layers.items()}
    masks = materialize(model, layers)
    assert list(masks) == list(expected)
    assert all(torch.equal(masks[name], mask) for name, mask in expected.items())
    assert masks.keys() < model.state_dict().keys()


def test_the_masks_prune_the_asked_share_of_each_matrix() -> None:
    model = bert()
    for mask in materialize(model, converted(model, sparsity=0.7)).values():
        assert int((~mask).count_nonzero()) == int(0.7 * mask.numel())


def test_materialized_zeros_are_positive() -> None:
    model = bert()
    masks = materialize(model, converted(model, sparsity=0.7))
    state = model.state_dict()
    assert not any(state[name][~mask].signbit().any() for name, mask in masks.items())


def test_materializing_no_layers_changes_nothing() -> None:
    model = bert()
    before = tiny.state(model)
    assert materialize(model, {}) == {}
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
