"""The update that PST trains for a weight, W' = W + β·U V, as it is exported.

Training computes W' faster and less exactly, in kernels.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Entries computed at once: what float64 takes of them stays in the cache, several times as fast.
_BLOCK = 1 << 17


@dataclass(frozen=True, slots=True)
class Factors:
    """U and V of one weight.

    Args:
        U: rows × rank, as the weight is stored.
        V: rank × columns.
        beta: Weight of U V.
    """

    U: Tensor
    V: Tensor
    beta: float

    @torch.no_grad()
    def transposed(self) -> "Factors":
        """The update of the transposed weight: (U V)ᵀ = Vᵀ Uᵀ, with the same sums."""
        return Factors(self.V.T.contiguous(), self.U.T.contiguous(), self.beta)

    @torch.no_grad()
    def update(self, weight: Tensor) -> Tensor:
        """W' as it is exported: in float64, summed over k = 0 … rank−1 in order, rounded once.

        A matrix product would differ in its last bits from one BLAS build to the next. Where the
        weight has half precision, the sum is rounded to float32 on the way.

        Args:
            weight: rows × columns, floating point.

        Returns:
            A new tensor in the weight's shape and dtype.
        """
        updated = torch.empty_like(weight)
        rows = max(1, _BLOCK // max(1, weight.shape[1]))
        V = self.V.double()
        parts = zip(
            updated.split(rows), weight.split(rows), self.U.double().split(rows), strict=True
        )
        for out, part, U in parts:
            product = torch.zeros_like(part, dtype=torch.float64)
            for u, v in zip(U.unbind(1), V.unbind(0), strict=True):
                product += u[:, None] * v[None, :]
            out.copy_(part.double() + self.beta * product)
        return updated
