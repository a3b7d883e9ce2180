"""What sparse layers tell of themselves while and after they train; nothing here changes them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pst_core.layers import PSTLinear, SparseLinear
from pst_core.masks import pack_bits, unpack_bits
from pst_core.report import VarianceShares


class MaskWatch:
    """Says how much of the masks changed since it last looked; keeps one bit an entry."""

    def __init__(self, layers: Mapping[str, SparseLinear]) -> None:
        self._layers = layers
        self._last: dict[str, Tensor] = {}

    def churn(self) -> float | None:
        """The share of all entries whose mask changed; None at the first look."""
        changed = entries = 0
        seen = bool(self._last)
        for name, layer in self._layers.items():
            mask_OI = layer.mask()
            if seen:
                changed += int((mask_OI ^ unpack_bits(self._last[name], mask_OI.shape)).sum())
                entries += mask_OI.numel()
            self._last[name] = pack_bits(mask_OI)
        return changed / entries if entries else None

    def seen(self) -> dict[str, Tensor]:
        """The masks of the last look, a bit an entry, by layer."""
        return self._last

    def go_on(self, seen: Mapping[str, Tensor]) -> None:
        """Compare with the masks that an earlier part of the run has seen last."""
        self._last = {
            name: bits.to(next(self._layers[name].parameters()).device)
            for name, bits in seen.items()
        }


@torch.no_grad()
def variance_shares(layers: Mapping[str, SparseLinear]) -> VarianceShares | None:
    """How much of the scores' variance each term has: |W'|, α1·A B, α2·(R + C).

    Over all matrices, each with its number of entries; covariances are left out. None where no
    layer has these terms.
    """
    sums = torch.zeros(3, dtype=torch.float64)
    for layer in layers.values():
        if isinstance(layer, PSTLinear):
            terms = (
                layer.updated_weight().abs_(),
                layer.alpha1 * (layer.A @ layer.B),
                layer.alpha2 * (layer.R[:, None] + layer.C[None, :]),
            )
            size = layer.weight.numel()
            sums += size * torch.stack([term.double().var(correction=0) for term in terms]).cpu()
    if not sums.sum():
        return None
    weight, low_rank, row_column = (sums / sums.sum()).tolist()
    return VarianceShares(weight=weight, low_rank=low_rank, row_column=row_column)
