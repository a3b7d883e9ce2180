"""The PST layer: a frozen weight, six small trainable factors, a mask from their scores.

Shapes: O out, I in, R rank, B batch and whatever stands before the last dimension of the input.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pst_core.masks import keep_highest


class _StraightThrough(torch.autograd.Function):
    """M ⊙ W' forward; backward G ⊙ M to W' and, straight through the mask, G ⊙ W' to the scores."""

    @staticmethod
    def forward(ctx: Any, weight_OI: Tensor, score_OI: Tensor, mask_OI: Tensor) -> Tensor:  # noqa: ANN401, ARG004 -- torch's own signature
        ctx.save_for_backward(weight_OI, mask_OI)
        # where, not a product: a product leaves -0.0 at negative entries.
        return torch.where(mask_OI, weight_OI, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401 -- torch's own signature
        (grad_OI,) = grads
        weight_OI, mask_OI = ctx.saved_tensors
        return grad_OI * mask_OI, grad_OI * weight_OI, None


class PSTLinear(nn.Module):
    """A linear layer under parameter-efficient sparse training (Li et al. 2022, section 3).

    W' = W + β·U V,  S = |W'| + α1·A B + α2·(R + C),  y = x (M ⊙ W')ᵀ + b, where M keeps the
    highest entries of S. W and b are frozen; U, V, A, B, R, C train. U and A start as N(0, 1), the
    others as zero, so that the first forward is the pretrained layer and S = |W|.

    Args:
        weight_OI: The pretrained weight.
        bias_O: Its bias, or None.
        rank: R of U (O×R) and V (R×I).
        score_rank: R of A (O×R) and B (R×I).
        alpha1: Weight of A B in the score.
        alpha2: Weight of the row and column scores.
        beta: Weight of U V.

    Attributes:
        sparsity: The share of entries the next forward prunes, in [0, 1).
    """

    def __init__(
        self,
        weight_OI: Tensor,
        bias_O: Tensor | None = None,
        *,
        rank: int = 8,
        score_rank: int = 8,
        alpha1: float = 1.0,
        alpha2: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        out_features, in_features = weight_OI.shape
        self.weight = nn.Parameter(weight_OI.detach().clone(), requires_grad=False)
        self.bias = (
            None if bias_O is None else nn.Parameter(bias_O.detach().clone(), requires_grad=False)
        )
        device = weight_OI.device
        self.U = nn.Parameter(torch.randn(out_features, rank, device=device))
        self.V = nn.Parameter(torch.zeros(rank, in_features, device=device))
        self.A = nn.Parameter(torch.randn(out_features, score_rank, device=device))
        self.B = nn.Parameter(torch.zeros(score_rank, in_features, device=device))
        self.R = nn.Parameter(torch.zeros(out_features, device=device))
        self.C = nn.Parameter(torch.zeros(in_features, device=device))
        self.alpha1, self.alpha2, self.beta = alpha1, alpha2, beta
        self.sparsity = 0.0

    def forward(self, x_BI: Tensor) -> Tensor:
        return nn.functional.linear(x_BI, self.masked_weight().to(self.weight.dtype), self.bias)

    def masked_weight(self) -> Tensor:
        """M ⊙ W', O×I, differentiable in all six factors."""
        weight_OI, score_OI = self._weight_and_score()
        masked_OI: Tensor = _StraightThrough.apply(weight_OI, score_OI, self._mask(score_OI))  # type: ignore[no-untyped-call]
        return masked_OI

    @torch.no_grad()
    def mask(self) -> Tensor:
        """M, O×I, True where the entry is kept."""
        return self._mask(self._weight_and_score()[1])

    @torch.no_grad()
    def exact_weight(self) -> Tensor:
        """W' as it is exported: in float64, summed over k = 0 … R−1 in order, rounded once.

        A matrix product would differ in its last bits from one BLAS build to the next.
        """
        update_OI = torch.zeros_like(self.weight, dtype=torch.float64)
        for u_O, v_I in zip(self.U.double().unbind(1), self.V.double().unbind(0), strict=True):
            update_OI += u_O[:, None] * v_I[None, :]
        return (self.weight.double() + self.beta * update_OI).to(self.weight.dtype)

    def _weight_and_score(self) -> tuple[Tensor, Tensor]:
        # Scores compare entries that differ in their last digits: never in half precision.
        with torch.autocast(self.weight.device.type, enabled=False):
            weight_OI = self.weight + self.beta * (self.U @ self.V)
            score_OI = (
                weight_OI.abs()
                + self.alpha1 * (self.A @ self.B)
                + self.alpha2 * (self.R[:, None] + self.C[None, :])
            )
        return weight_OI, score_OI

    def _mask(self, score_OI: Tensor) -> Tensor:
        return keep_highest(score_OI, self.sparsity)
