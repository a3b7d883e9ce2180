"""Linear layers under sparse training: what is masked, trained and scored in each.

Shapes: O out, I in, R rank, B batch and whatever stands before the last dimension of the input.
Their forward and backward are computed in kernels.py, how many entries of which scores go is
masks.py's, and which layers a model gets convert.py's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from pst_core.factors import Factors
from pst_core.kernels import (
    Numbers,
    Parameters,
    add_learned_score,
    mask_straight_through,
    pst_linear,
    updated_weight,
)
from pst_core.masks import NOfM, Selector


class SparseLinear(nn.Module, ABC):
    """A linear layer whose weight is masked by scores: y = x (M ⊙ W')ᵀ + b.

    Args:
        weight_OI: The pretrained weight; the layer shares its memory.
        bias_O: Its bias, or None.
        parts: The rows of each logical matrix in a fused one; each has a threshold of its own.
        pattern: N of every M entries of a row are kept, instead of the highest of all.

    Attributes:
        sparsity: The share of entries the next forward prunes, in [0, 1).
    """

    def __init__(
        self,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        *,
        parts: tuple[int, ...] | None,
        pattern: NOfM | None,
    ) -> None:
        super().__init__()
        # Parameters of our own over the same memory: freezing them freezes nothing elsewhere.
        self.weight = nn.Parameter(weight_OI.detach(), requires_grad=False)
        self.bias = None if bias_O is None else nn.Parameter(bias_O.detach(), requires_grad=False)
        self.sparsity = 0.0
        self.selector = Selector(parts or (weight_OI.shape[0],), pattern)
        self._frozen_OI: Tensor | None = None

    def forward(self, x_BI: Tensor) -> Tensor:
        if self._frozen_OI is None:
            return self.trainable_product(x_BI)
        return nn.functional.linear(x_BI, self._frozen_OI, self.bias)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have every forward use M ⊙ W' as it is now, computed once; nothing trains meanwhile."""
        self._frozen_OI = self.masked_weight().to(self.weight.dtype)
        try:
            yield
        finally:
            self._frozen_OI = None

    @abstractmethod
    def trainable_product(self, x_BI: Tensor) -> Tensor:
        """The forward, with all it takes to train, from the mask of this moment."""

    @abstractmethod
    def updated_weight(self) -> Tensor:
        """W', O×I, without the mask."""

    @abstractmethod
    def score(self) -> Tensor:
        """S, O×I, in float32 at least: it compares entries that differ in their last digits."""

    @torch.no_grad()
    def mask(self) -> Tensor:
        """M, O×I, True where the entry is kept."""
        # In half precision, scores that differ would tie.
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.selector.select(self.score(), self.sparsity)

    @torch.no_grad()
    def masked_weight(self) -> Tensor:
        """M ⊙ W', O×I; pruned entries are +0.0."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return torch.where(self.mask(), self.updated_weight(), 0.0)

    def exact_weight(self) -> Tensor:
        """W' as it is exported, O×I, in the dtype of the weight."""
        return self.weight.detach()


class PSTLinear(SparseLinear):
    """A linear layer under parameter-efficient sparse training (Li et al. 2022, section 3).

    W' = W + β·U V,  S = |W'| + α1·A B + α2·(R + C),  y = x (M ⊙ W')ᵀ + b, where M keeps the
    highest entries of S. W is frozen; U, V, A, B, R, C train. U and A start as N(0, 1), the
    others as zero, so that the first forward is the pretrained layer and S = |W|.

    Args:
        weight_OI: The pretrained weight; the layer shares its memory.
        bias_O: Its bias, or None; trains where it requires gradients.
        rank: R of U (O×R) and V (R×I).
        score_rank: R of A (O×R) and B (R×I).
        alpha1: Weight of A B in the score.
        alpha2: Weight of the row and column scores.
        beta: Weight of U V.
        parts: The rows of each logical matrix in a fused one; each has a threshold of its own.
        pattern: N of every M entries of a row are kept, instead of the highest of all.

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
        parts: tuple[int, ...] | None = None,
        pattern: NOfM | None = None,
    ) -> None:
        super().__init__(weight_OI, bias_O, parts=parts, pattern=pattern)
        (O, I), device = weight_OI.shape, weight_OI.device
        # In half precision, small steps of the factors would round to nothing.
        dtype = torch.promote_types(weight_OI.dtype, torch.float32)
        self.U = nn.Parameter(torch.randn(O, rank, device=device, dtype=dtype))
        self.V = nn.Parameter(torch.zeros(rank, I, device=device, dtype=dtype))
        self.A = nn.Parameter(torch.randn(O, score_rank, device=device, dtype=dtype))
        self.B = nn.Parameter(torch.zeros(score_rank, I, device=device, dtype=dtype))
        self.R = nn.Parameter(torch.zeros(O, device=device, dtype=dtype))
        self.C = nn.Parameter(torch.zeros(I, device=device, dtype=dtype))
        self.alpha1, self.alpha2, self.beta = alpha1, alpha2, beta

    @property
    def _numbers(self) -> Numbers:
        return Numbers(self.alpha1, self.alpha2, self.beta)

    def trainable_product(self, x_BI: Tensor) -> Tensor:
        return pst_linear(
            x_BI,
            Parameters(self.bias, self.weight, self.U, self.V, self.A, self.B, self.R, self.C),
            self._numbers,
            partial(self.selector.select, sparsity=self.sparsity),
        )

    @torch.no_grad()
    def updated_weight(self) -> Tensor:
        return updated_weight(self.weight, self.U, self.V, self.beta)

    @torch.no_grad()
    def score(self) -> Tensor:
        score_OI = self.updated_weight().abs_()
        return add_learned_score(
            score_OI, (self.A, self.B, self.R, self.C), self.alpha1, self.alpha2
        )

    def factors(self) -> Factors:
        """What trained of W', in the memory of the layer."""
        return Factors(self.U.detach(), self.V.detach(), self.beta)

    def exact_weight(self) -> Tensor:
        return self.factors().update(self.weight.detach())


class MaskedLinear(SparseLinear):
    """A linear layer whose whole weight trains under a mask: y = x (M ⊙ W)ᵀ + b.

    The score is |W| itself, or a matrix of its own. Pruned entries of W get no gradient; a score
    that trains gets ∂L/∂S = G ⊙ W, straight through the mask.

    Args:
        weight_OI: The pretrained weight; the layer shares its memory.
        bias_O: Its bias, or None.
        score_OI: S where it is not |W|: a parameter that trains, or a tensor that stays.
        parts: The rows of each logical matrix in a fused one; each has a threshold of its own.
        pattern: N of every M entries of a row are kept, instead of the highest of all.

    Attributes:
        sparsity: The share of entries the next forward prunes, in [0, 1).
    """

    def __init__(
        self,
        weight_OI: Tensor,
        bias_O: Tensor | None = None,
        *,
        score_OI: Tensor | nn.Parameter | None = None,
        parts: tuple[int, ...] | None = None,
        pattern: NOfM | None = None,
    ) -> None:
        super().__init__(weight_OI, bias_O, parts=parts, pattern=pattern)
        self.weight.requires_grad = True
        self.S: Tensor | nn.Parameter | None
        if isinstance(score_OI, nn.Parameter):
            self.S = score_OI
        else:
            # It moves with the layer, and is not saved: what is exported is the mask.
            self.register_buffer("S", score_OI, persistent=False)

    def trainable_product(self, x_BI: Tensor) -> Tensor:
        masked_OI = mask_straight_through(self.weight, self.S, self.mask())
        return nn.functional.linear(x_BI, masked_OI, self.bias)

    @torch.no_grad()
    def updated_weight(self) -> Tensor:
        return self.weight.detach()

    @torch.no_grad()
    def score(self) -> Tensor:
        score_OI = self.weight.abs() if self.S is None else self.S
        return score_OI.to(torch.promote_types(score_OI.dtype, torch.float32))
