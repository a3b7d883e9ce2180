"""The trained update of a weight: handed over as the weight is stored, and computed exactly."""

import pytest
import torch

from pst_core.convert import Converted, Pruning, convert, materialize, trained_factors
from pst_core.factors import Factors
from pst_core.recipes import Hyperparameters
from pst_core.spec import Method
from tests.pst_core.families import FAMILIES, Family, each_family

HYPER = Hyperparameters(rank=2, score_rank=2)


def random_factors(rows: int, columns: int) -> Factors:
    generator = torch.Generator().manual_seed(0)
    U = torch.randn(rows, 3, generator=generator)
    return Factors(U, torch.randn(3, columns, generator=generator), 0.1)


def test_a_weight_of_many_blocks_is_updated_as_in_one() -> None:
    factors = random_factors(700, 600)
    weight = torch.randn(700, 600, generator=torch.Generator().manual_seed(1))
    total = torch.zeros(700, 600, dtype=torch.float64)
    for k in range(3):
        total += factors.U[:, k, None].double() * factors.V[None, k].double()
    assert torch.equal(factors.update(weight), (weight.double() + 0.1 * total).float())


def test_the_transposed_factors_update_the_transposed_weight_to_the_same_bits() -> None:
    factors, weight = random_factors(40, 30), torch.ones(40, 30)
    assert torch.equal(factors.transposed().update(weight.T), factors.update(weight).T)


def test_the_weight_stays_as_it_is() -> None:
    weight = torch.ones(40, 30)
    random_factors(40, 30).update(weight)
    assert torch.equal(weight, torch.ones(40, 30))


@each_family
def test_trained_factors_make_the_exported_weight_from_the_pretrained_one(family: Family) -> None:
    model = family.build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    converted = convert(model, Pruning(method="pst"), HYPER)
    for layer in converted.layers.values():
        torch.nn.init.normal_(layer.get_parameter("V"), std=0.02)
    converted.set_sparsity(0.6)
    factors = trained_factors(converted)
    masks, _ = materialize(model, converted)
    after = model.state_dict()
    assert factors.keys() == masks.keys()
    for name, mask in masks.items():
        update = factors[name].update(before[name])
        assert torch.equal(after[name], torch.where(mask, update, 0.0))


@pytest.mark.parametrize("method", ["magnitude", "movement", "random"])
def test_weights_that_train_themselves_have_no_factors(method: Method) -> None:
    converted = convert(FAMILIES["gpt2"].build(), Pruning(method=method), HYPER)
    assert trained_factors(converted) == {}


def test_without_sparse_layers_there_are_no_factors() -> None:
    assert trained_factors(Converted({})) == {}
