"""Which entries of a matrix are kept. The scores come from elsewhere; nothing here trains.

Shapes: O out, I in. On the CPU selection is numpy's, many times faster than torch's; on a GPU it
is torch's and never waits for the device.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# A bracket that holds this share of the entries, up to twice as many, is neither too narrow to
# catch the next threshold nor too wide to be searched fast.
_BRACKET_SHARE = 1 / 256


@dataclass(frozen=True, slots=True)
class NOfM:
    """N of every M entries along the input dimension are kept (2:4, 4:8) once all are pruned.

    Below the full sparsity 1 − N/M each group loses ``int(s·M)`` entries.
    """

    n: int
    m: int

    @property
    def sparsity(self) -> float:
        return 1 - self.n / self.m


def prune_count(sparsity: float, entries: int) -> int:
    """How many of ``entries`` are pruned: ``int(s·n)`` in float64, as the authors count."""
    return int(sparsity * entries)


class Selector:
    """Selects the entries of one layer's weight to keep (PST paper, eq. 2), step after step.

    Exactly ``int(s·n)`` of the n entries of each logical matrix are pruned; among equal scores the
    lower flat index goes first. On the CPU it remembers the last thresholds: the next one lies
    near, so that only the scores between two brackets need to be searched. What is selected does
    not depend on that memory.

    Args:
        parts: The rows of each logical matrix in a fused one (query, key, value), in order.
        pattern: Keep N of M instead, in every group of M entries of a row.
    """

    def __init__(self, parts: tuple[int, ...], pattern: NOfM | None = None) -> None:
        self.parts = parts
        self.pattern = pattern
        self._brackets = [_Bracket() for _ in parts]

    def select(self, score_OI: Tensor, sparsity: float, out: Tensor | None = None) -> Tensor:
        """The mask, boolean O×I, True where the entry is kept.

        Args:
            score_OI: Importance of each entry, finite, float32 or float64.
            sparsity: s, in [0, 1).
            out: Where to write it, boolean O×I, contiguous.
        """
        # Contiguous whatever the score is: parts of it are written through flat views.
        mask_OI = score_OI.new_empty(score_OI.shape, dtype=torch.bool) if out is None else out
        if self.pattern is not None:
            pruned = int(sparsity * self.pattern.m)
            return mask_OI.copy_(_keep_n_of_m(score_OI, pruned, self.pattern.m))
        scores, masks = score_OI.split(self.parts), mask_OI.split(self.parts)
        for score, mask, bracket in zip(scores, masks, self._brackets, strict=True):
            count = prune_count(sparsity, score.numel())
            if count == 0:
                mask.fill_(True)
            elif score.device.type == "cpu":
                bracket.keep_highest(score.numpy().reshape(-1), count, mask.numpy().reshape(-1))
            else:
                _keep_highest(score.reshape(-1), count, mask.view(-1))
        return mask_OI


class _Bracket:
    """Two scores between which the threshold lies, most likely, the next time it is asked for."""

    def __init__(self) -> None:
        # One attribute, since threads may share a layer: they never see half of a move.
        self._bounds = (math.nan, math.nan)
        self._threshold = math.nan

    def keep_highest(
        self, scores: NDArray[np.floating], count: int, mask: NDArray[np.bool_]
    ) -> None:
        """Write the mask that is False at the ``count`` lowest of the scores."""
        candidates = self._candidates(scores, count, mask)
        if candidates is None:
            mask.fill(False)
            candidates = np.arange(scores.size)
        values = scores[candidates]
        # What lies above the candidates is kept already, what lies below them stays pruned.
        missing = scores.size - count - int(np.count_nonzero(mask))
        rank = values.size - missing - 1
        reach = max(1, int(scores.size * _BRACKET_SHARE / 2))
        low, high = max(0, rank - reach), min(values.size - 1, rank + reach)
        ordered = np.partition(values, (low, rank, high))
        threshold = ordered[rank]
        above = values > threshold
        mask[candidates[above]] = True
        missing -= int(np.count_nonzero(above))
        if missing > 0:
            mask[candidates[values == threshold][-missing:]] = True
        self._move(float(threshold), float(ordered[high]) - float(ordered[low]))

    def _candidates(
        self, scores: NDArray[np.floating], count: int, mask: NDArray[np.bool_]
    ) -> NDArray[np.intp] | None:
        """The indices inside the bracket, in order; None where the threshold is not inside."""
        low, high = self._bounds
        # A bound beyond the largest float32 becomes infinite, as it should.
        with np.errstate(over="ignore"):
            np.greater(scores, high, out=mask)
            inside = scores >= low
        inside ^= mask
        candidates = np.flatnonzero(inside)
        below = scores.size - int(np.count_nonzero(mask)) - candidates.size
        return candidates if below < count <= below + candidates.size else None

    def _move(self, threshold: float, width: float) -> None:
        drift = 0.0 if math.isnan(self._threshold) else abs(threshold - self._threshold)
        # The density of scores decides at rest, the drift while the sparsity rises.
        reach = max(width / 2, 2 * drift)
        self._bounds = (threshold - reach, threshold + reach)
        self._threshold = threshold


def kth_smallest(flat: Tensor, k: int) -> Tensor:
    """The k-th smallest of a vector, counted from one, as a scalar on its device."""
    if flat.device.type == "cpu":
        return torch.tensor(np.partition(flat.numpy(), k - 1)[k - 1])
    return _kth_smallest_on_device(flat, k)


def _kth_smallest_on_device(flat: Tensor, k: int) -> Tensor:
    # torch.kthvalue would run in one block of a GPU's threads (docs/benchmarks.md).
    from_above = flat.numel() - k + 1
    if k < from_above:
        return flat.topk(k, largest=False, sorted=False).values.max()
    return flat.topk(from_above, sorted=False).values.min()


def _keep_highest(flat: Tensor, count: int, mask: Tensor) -> None:
    """Write the mask that is False at the ``count`` lowest of the scores."""
    threshold = _kth_smallest_on_device(flat, count)
    not_below, ties = flat >= threshold, flat == threshold
    # The first of the ties go; counted on the device, for asking it would wait for it.
    surplus = not_below.sum() - (flat.numel() - count)
    torch.where(ties, ties.cumsum(0, dtype=torch.int32) > surplus, not_below, out=mask)


def _keep_n_of_m(score_OI: Tensor, pruned: int, m: int) -> Tensor:
    order = score_OI.reshape(-1, m).argsort(dim=1, stable=True)
    keep = torch.ones_like(order, dtype=torch.bool)
    return keep.scatter_(1, order[:, :pruned], value=False).view_as(score_OI)


def pack_bits(mask: Tensor) -> Tensor:
    """A boolean tensor as one bit an entry: uint8, ⌈n/8⌉."""
    flat = mask.reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
    return _pack_on_device(flat)


def unpack_bits(bits: Tensor, shape: torch.Size) -> Tensor:
    """The boolean tensor that `pack_bits` packed."""
    if bits.device.type == "cpu":
        flat = np.unpackbits(bits.numpy(), count=shape.numel(), bitorder="little")
        return torch.from_numpy(flat.view(np.bool_)).view(shape)
    return _unpack_on_device(bits, shape.numel()).view(shape)


def _pack_on_device(flat: Tensor) -> Tensor:
    padded = nn.functional.pad(flat.view(torch.uint8), (0, -flat.numel() % 8)).view(-1, 8)
    return (padded << _places(flat.device)).sum(1, dtype=torch.uint8)


def _unpack_on_device(bits: Tensor, count: int) -> Tensor:
    return ((bits[:, None] >> _places(bits.device)) & 1).view(-1)[:count].bool()


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
