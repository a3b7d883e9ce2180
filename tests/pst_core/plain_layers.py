"""The equations of the layers as they stand, for autograd to differentiate.

What tests compare with: nothing here is fast, in place, or written by hand for the backward.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pst_core.layers import MaskedLinear, PSTLinear, SparseLinear
from pst_core.masks import NOfM, Selector

FACTORS = ("U", "V", "A", "B", "R", "C")


def make_layer(
    out: int,
    inputs: int,
    *,
    bias: bool = True,
    seed: int = 0,
    sparsity: float = 0.0,
    dtype: torch.dtype = torch.float32,
    **numbers: Any,
) -> PSTLinear:
    """A layer none of whose factors is zero, and whose bias trains; its weight is of the dtype."""
    torch.manual_seed(seed)
    weight_OI, bias_O = torch.randn(out, inputs, dtype=dtype), torch.randn(out, dtype=dtype)
    layer = PSTLinear(weight_OI, bias_O if bias else None, **numbers)
    for name in FACTORS:
        nn.init.normal_(getattr(layer, name))
    if layer.bias is not None:
        layer.bias.requires_grad = True
    layer.sparsity = sparsity
    return layer


def groups(score_OI: Tensor, selector: Selector) -> list[Tensor]:
    """What entries compete with each other, in flat order."""
    if isinstance(selector.pattern, NOfM):
        return list(score_OI.reshape(-1, selector.pattern.m))
    return [part_OI.flatten() for part_OI in score_OI.split(selector.parts)]


def plain_mask(score_OI: Tensor, sparsity: float, selector: Selector) -> Tensor:
    """1 where an entry is kept, by a stable sort of each group that competes."""
    masks = []
    for scores in groups(score_OI, selector):
        mask = torch.ones_like(scores)
        mask[scores.argsort(stable=True)[: int(sparsity * scores.numel())]] = 0
        masks.append(mask)
    return torch.cat(masks).view_as(score_OI)


def plain_parts(layer: SparseLinear) -> tuple[Tensor, Tensor]:
    """W' and S."""
    if isinstance(layer, PSTLinear):
        weight_OI = layer.weight.to(layer.U.dtype) + layer.beta * (layer.U @ layer.V)
        rows_and_columns = layer.R[:, None] + layer.C[None, :]
        return weight_OI, (
            weight_OI.abs() + layer.alpha1 * (layer.A @ layer.B) + layer.alpha2 * rows_and_columns
        )
    assert isinstance(layer, MaskedLinear)
    return layer.weight, layer.weight.detach().abs() if layer.S is None else layer.S


def plain_masked_weight(layer: SparseLinear) -> Tensor:
    """M ⊙ W', differentiable; straight through: the mask's value, the score's gradient."""
    weight_OI, score_OI = plain_parts(layer)
    mask_OI = plain_mask(score_OI.detach(), layer.sparsity, layer.selector)
    return (mask_OI + (score_OI - score_OI.detach())) * weight_OI


def plain_forward(layer: SparseLinear, x_BI: Tensor) -> Tensor:
    """The layer's output, in half precision where autocast or the weight is, the mask never."""
    with torch.autocast("cpu", enabled=False):
        masked_OI = plain_masked_weight(layer).to(layer.weight.dtype)
    return nn.functional.linear(x_BI, masked_OI, layer.bias)


def gradients(layer: SparseLinear) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in layer.named_parameters()}
