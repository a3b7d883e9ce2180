"""The sparsity and the learning rate at each step: numbers only, applied by the trainer."""

import math
from typing import Literal


def sparsity_at(
    step: int, total_steps: int, *, target: float, initial_warmup: float, final_hold: float
) -> float:
    """The cubic schedule (Zhu & Gupta 2017, arXiv 1710.01878, eq. 1, from 0; PST paper, section 3).

    Zero for t ≤ iT, the target for t > T − fT, and between them
    target · (1 − (1 − (t − iT) / (T − (i + f)T))³).

    Args:
        step: t, the optimizer step about to be taken, from 1 to T.
        total_steps: T.
        target: The sparsity to end at, in [0, 1).
        initial_warmup: i, the share of the steps before anything is pruned.
        final_hold: f, the share of the steps trained at the target.
    """
    rises_after = initial_warmup * total_steps
    holds_after = total_steps - final_hold * total_steps
    if step <= rises_after:
        return 0.0
    if step > holds_after:
        return target
    progress = (step - rises_after) / (holds_after - rises_after)
    return target * (1 - (1 - progress) ** 3)


def learning_rate_factor(
    step: int, total_steps: int, *, warmup: float, decay: Literal["linear", "cosine"] = "linear"
) -> float:
    """What a base rate is multiplied by: rising linearly to 1, then falling to 0.

    Args:
        step: The optimizer step about to be taken, from 1 to ``total_steps``.
        total_steps: All of them.
        warmup: The share of the steps over which the rate rises.
        decay: Along a line, or half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983).
    """
    warmup_steps = warmup * total_steps
    if step <= warmup_steps:
        return step / warmup_steps
    left = (total_steps - step + 1) / (total_steps - warmup_steps + 1)
    return left if decay == "linear" else (1 - math.cos(math.pi * left)) / 2
