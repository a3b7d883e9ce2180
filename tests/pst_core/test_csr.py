"""Sparse rows give what the dense matrix gives, and share all else with the model."""

import pytest
import torch
from torch import nn

from pst_core.architectures import survey
from pst_core.csr import CsrLinear, with_csr
from tests.pst_core.families import FAMILIES, outputs


@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_a_sparse_layer_gives_what_the_dense_one_gives(bias: bool) -> None:
    torch.manual_seed(0)
    dense = nn.Linear(12, 7, bias=bias)
    dense.weight[torch.rand(7, 12) < 0.8] = 0
    x = torch.randn(2, 5, 12)

    sparse = CsrLinear(dense.weight, dense.bias)

    torch.testing.assert_close(sparse(x), dense(x))
    assert sparse.weight.values().numel() == dense.weight.count_nonzero()


@pytest.mark.parametrize("name", ["bert", "gpt2-lm", "llama", "phi3"])
@torch.no_grad()
def test_a_sparse_model_gives_what_the_dense_one_gives(name: str) -> None:
    model = FAMILIES[name].build()
    pruned = {f"{module}.weight" for module in survey(model).prunable}
    for weight in pruned:
        dense = model.get_parameter(weight)
        dense[dense.abs() < 0.2] = 0

    sparse = with_csr(model, pruned)

    layers = {name for name, each in sparse.named_modules() if isinstance(each, CsrLinear)}
    assert {f"{layer}.weight" for layer in layers} == pruned
    torch.testing.assert_close(outputs(sparse), outputs(model), rtol=1e-4, atol=1e-4)


def test_what_is_not_pruned_is_shared_and_the_model_stays() -> None:
    model = FAMILIES["bert"].build()
    weight = "bert.encoder.layer.0.output.dense.weight"

    sparse = with_csr(model, {weight})

    shared = dict(sparse.named_parameters())
    for name, parameter in model.named_parameters():
        if not name.startswith(weight.removesuffix("weight")):
            assert shared[name] is parameter
    assert isinstance(model.get_submodule(weight.removesuffix(".weight")), nn.Linear)
