"""Which entries of a matrix are kept. The scores come from elsewhere; nothing here trains."""

import numpy as np
import torch
from torch import Tensor


def prune_count(sparsity: float, entries: int) -> int:
    """How many of ``entries`` are pruned: ``int(s·n)`` in float64, as the authors count."""
    return int(sparsity * entries)


def keep_highest(score_OI: Tensor, sparsity: float) -> Tensor:
    """The mask that keeps the highest scores (PST paper, eq. 2).

    Exactly ``int(s·O·I)`` entries are False; among equal scores the lower flat index is pruned
    first.

    Args:
        score_OI: Importance of each entry, finite.
        sparsity: s, in [0, 1).

    Returns:
        A boolean tensor, O×I, True where the entry is kept.
    """
    count = prune_count(sparsity, score_OI.numel())
    if count == 0:
        return torch.ones_like(score_OI, dtype=torch.bool)
    flat = score_OI.detach().reshape(-1)
    threshold = _count_th_smallest(flat, count)
    keep = flat > threshold
    # Scores that equal the threshold: as many of them stay as the pruned ones are too many.
    excess = flat.numel() - int(keep.count_nonzero()) - count
    if excess > 0:
        ties = (flat == threshold).nonzero().squeeze(1)
        keep[ties[-excess:]] = True
    return keep.view_as(score_OI)


def _count_th_smallest(flat: Tensor, count: int) -> Tensor:
    # A selection, not a sort; numpy's is vectorized and many times faster than torch's on the CPU.
    if flat.device.type == "cpu":
        return torch.from_numpy(np.partition(flat.numpy(), count - 1)[count - 1 : count])
    return flat.kthvalue(count).values
