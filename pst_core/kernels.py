"""Forward and backward of the sparse layers, with as little kept between the two as can be.

Shapes: O out, I in, R rank, B whatever stands before the last dimension of the input, N all of it.
The modules that own the parameters are layers.py's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pst_core.masks import pack_bits, unpack_bits
from pst_core.scratch import scratch


class Numbers(NamedTuple):
    """The weights of A B and of R + C in the score, and of U V in the updated weight."""

    alpha1: float
    alpha2: float
    beta: float


class Parameters(NamedTuple):
    """Those of a PST layer, frozen or not."""

    bias_O: Tensor | None
    weight_OI: Tensor
    U_OR: Tensor
    V_RI: Tensor
    A_OR: Tensor
    B_RI: Tensor
    R_O: Tensor
    C_I: Tensor


# Writes the mask (O×I, boolean) of a score (O×I) to the tensor it is given.
Select = Callable[..., Tensor]


def pst_linear(x_BI: Tensor, parameters: Parameters, numbers: Numbers, select: Select) -> Tensor:
    """Give y = x (M ⊙ W')ᵀ + b of PST (Li et al. 2022, section 3), differentiable but in W."""
    y_BO: Tensor = _PSTFunction.apply(numbers, select, x_BI, *parameters)
    return y_BO


def mask_straight_through(weight_OI: Tensor, score_OI: Tensor | None, mask_OI: Tensor) -> Tensor:
    """M ⊙ W, differentiable in W and, as if the mask were not there, in the score."""
    masked_OI: Tensor = _MaskFunction.apply(weight_OI, score_OI, mask_OI)
    return masked_OI


class _PSTFunction(torch.autograd.Function):
    """The forward of PSTLinear, keeping its input and one bit an entry for the backward.

    W' is computed again there, since it costs less than to keep it. With G = ∂L/∂(M ⊙ W'):

        ∂L/∂S = G ⊙ W' (straight-through)        ∂L/∂W' = G ⊙ (M + |W'|)
        dA = α1·dS Bᵀ   dB = α1·Aᵀ dS   dR = α2·rowsum(dS)   dC = α2·colsum(dS)
        dU = β·dW' Vᵀ   dV = β·Uᵀ dW'
    """

    @staticmethod
    def forward(
        ctx: Any,
        numbers: Numbers,
        select: Select,
        x_BI: Tensor,
        *parameters: Any,
    ) -> Tensor:
        bias_O, weight_OI, U_OR, V_RI, *scores = Parameters(*parameters)
        dtype = _product_dtype(x_BI, weight_OI)
        with torch.autocast(x_BI.device.type, enabled=False):
            updated_OI = updated_weight(weight_OI, U_OR, V_RI, numbers.beta, slot="updated")
            score_OI = torch.abs(updated_OI, out=scratch("score", updated_OI))
            add_learned_score(score_OI, tuple(scores), numbers.alpha1, numbers.alpha2)
            mask_OI = select(score_OI, out=scratch("mask", updated_OI, dtype=torch.bool))
            masked_OI = score_OI.copy_(_as_bytes(mask_OI)).mul_(updated_OI)
            x_BI = x_BI.to(dtype)
            bias = None if bias_O is None else bias_O.to(dtype)
            y_BO = nn.functional.linear(x_BI, masked_OI.to(dtype), bias)
        ctx.save_for_backward(x_BI, pack_bits(mask_OI), weight_OI, U_OR, V_RI, *scores[:2])
        ctx.numbers = numbers
        return y_BO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Should backward run under an autocast, the factors' gradients stay as precise.
        with torch.autocast(grads[0].device.type, enabled=False):
            return _gradients(ctx, grads[0].reshape(-1, grads[0].shape[-1]))


def _gradients(ctx: Any, dy_NO: Tensor) -> tuple[Tensor | None, ...]:
    x_BI, bits, weight_OI, U_OR, V_RI, A_OR, B_RI = ctx.saved_tensors
    numbers: Numbers = ctx.numbers
    x_NI = x_BI.reshape(-1, x_BI.shape[-1])
    updated_OI = updated_weight(weight_OI, U_OR, V_RI, numbers.beta, slot="updated")
    mask_OI = _as_bytes(unpack_bits(bits, weight_OI.shape))
    work_OI = scratch("score", updated_OI)
    dx = None
    if ctx.needs_input_grad[2]:
        masked_OI = work_OI.copy_(mask_OI).mul_(updated_OI)
        dx = (dy_NO @ masked_OI.to(dy_NO.dtype)).view_as(x_BI)
    dbias = dy_NO.sum(0) if ctx.needs_input_grad[3] else None
    grad_OI = scratch("gradient", updated_OI)
    # Under an autocast the product is in half precision, and torch.mm does not convert.
    if dy_NO.dtype == grad_OI.dtype:
        torch.mm(dy_NO.T, x_NI, out=grad_OI)
    else:
        grad_OI.copy_(dy_NO.T @ x_NI)
    dscore_OI = torch.mul(grad_OI, updated_OI, out=work_OI)
    dA, dR, dB, dC = _score_gradients(dscore_OI, A_OR, B_RI, numbers)
    # In place: the gradient becomes that of W'.
    grad_OI.mul_(work_OI.copy_(mask_OI).add_(updated_OI.abs_()))
    dU = _product(V_RI, grad_OI.T, numbers.beta).T
    dV = _product(U_OR.T, grad_OI, numbers.beta)
    return None, None, dx, dbias, None, dU, dV, dA, dB, dR, dC


def updated_weight(
    weight_OI: Tensor, U_OR: Tensor, V_RI: Tensor, beta: float, *, slot: str | None = None
) -> Tensor:
    """W + β·U V, in the dtype of the factors; in scratch memory where that has a name."""
    # Written to memory that is given, which no autocast turns into half precision.
    if slot is None:
        out_OI = weight_OI.new_empty(weight_OI.shape, dtype=U_OR.dtype)
    else:
        out_OI = scratch(slot, weight_OI, dtype=U_OR.dtype)
    if weight_OI.dtype == U_OR.dtype:
        return torch.addmm(weight_OI, U_OR, V_RI, alpha=beta, out=out_OI)
    return out_OI.copy_(weight_OI).addmm_(U_OR, V_RI, alpha=beta)


def add_learned_score(
    score_OI: Tensor, factors: tuple[Tensor, ...], alpha1: float, alpha2: float
) -> Tensor:
    """Add α1·A B + α2·(R + C) in place."""
    if score_OI.device.type != "cpu":
        return _add_on_device(score_OI, factors, alpha1, alpha2)
    # As one product of rank r + 2, for each pass over the scores costs memory bandwidth.
    A_OR, B_RI, R_O, C_I = factors
    left = torch.cat([alpha1 * A_OR, torch.stack([R_O, torch.ones_like(R_O)], 1)], 1)
    right = torch.cat([B_RI, alpha2 * torch.stack([torch.ones_like(C_I), C_I])])
    return score_OI.addmm_(left, right)


def _add_on_device(
    score_OI: Tensor, factors: tuple[Tensor, ...], alpha1: float, alpha2: float
) -> Tensor:
    # There a kernel's launch costs more than its pass over the scores.
    A_OR, B_RI, R_O, C_I = factors
    score_OI.addmm_(A_OR, B_RI, alpha=alpha1)
    return score_OI.add_(R_O[:, None], alpha=alpha2).add_(C_I, alpha=alpha2)


def _score_gradients(
    dscore_OI: Tensor, A_OR: Tensor, B_RI: Tensor, numbers: Numbers
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of A, R, B, C."""
    # So transposed, for BLAS is slow at products with few columns, less so at those with few rows.
    dA = _product(B_RI, dscore_OI.T, numbers.alpha1).T
    dB = _product(A_OR.T, dscore_OI, numbers.alpha1)
    dR = dscore_OI.sum(1).mul_(numbers.alpha2)
    dC = dscore_OI.sum(0).mul_(numbers.alpha2)
    return dA, dR, dB, dC


def _product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    # What is added counts nothing: a scaled product is one kernel so, and would else be two.
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


def _as_bytes(mask: Tensor) -> Tensor:
    """A mask in the same memory that torch converts to numbers eight times faster."""
    return mask.view(torch.uint8)


def _product_dtype(x_BI: Tensor, weight_OI: Tensor) -> torch.dtype:
    device = x_BI.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight_OI.dtype


class _MaskFunction(torch.autograd.Function):
    """M ⊙ W; backward G ⊙ M to W and, straight through the mask, G ⊙ W to the scores."""

    @staticmethod
    def forward(
        ctx: Any,
        weight_OI: Tensor,
        score_OI: Tensor | None,
        mask_OI: Tensor,
    ) -> Tensor:
        scored = score_OI is not None and score_OI.requires_grad
        ctx.save_for_backward(pack_bits(mask_OI), weight_OI if scored else None)
        return weight_OI * _as_bytes(mask_OI)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (grad_OI,) = grads
        bits, weight_OI = ctx.saved_tensors
        dscore_OI = None if weight_OI is None else grad_OI * weight_OI
        return grad_OI * _as_bytes(unpack_bits(bits, grad_OI.shape)), dscore_OI, None
