"""The pruning criteria: each makes the layer that scores, masks and trains one weight.

Schedule, trainer and export are the same for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pst_core.layers import MaskedLinear, PSTLinear, SparseLinear
from pst_core.masks import NOfM
from pst_core.recipes import Hyperparameters
from pst_core.spec import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A pretrained weight (O×I) on its way into a layer; `parts` and `pattern` as in layers.py.

    `deviation` is the standard deviation of the entries of all the matrices that are pruned.
    """

    weight_OI: Tensor
    deviation: float
    bias_O: Tensor | None
    parts: tuple[int, ...]
    pattern: NOfM | None


Criterion = Callable[[Matrix, Hyperparameters], SparseLinear]


def pst(matrix: Matrix, hyper: Hyperparameters) -> PSTLinear:
    """Low-rank and row and column scores on top of |W'| (Li et al. 2022, arXiv 2205.11005).

    Where the recipe is relative, U V and the learned scores are measured in the deviation, and
    low-rank products in √r as well (rsLoRA, Kalajdzievski 2023, 2312.03732): the same rates then
    suit every model and rank.
    """
    scale = rank_scale = score_rank_scale = 1.0
    if hyper.relative:
        scale = matrix.deviation
        rank_scale, score_rank_scale = scale / hyper.rank**0.5, scale / hyper.score_rank**0.5
    return PSTLinear(
        matrix.weight_OI,
        matrix.bias_O,
        rank=hyper.rank,
        score_rank=hyper.score_rank,
        alpha1=hyper.alpha1 * score_rank_scale,
        alpha2=hyper.alpha2 * scale,
        beta=hyper.beta * rank_scale,
        parts=matrix.parts,
        pattern=matrix.pattern,
    )


def magnitude(matrix: Matrix, _: Hyperparameters) -> MaskedLinear:
    """S = |W| while the weights train (Han et al. 2015, arXiv 1506.02626; Zhu & Gupta 2017)."""
    return MaskedLinear(matrix.weight_OI, matrix.bias_O, parts=matrix.parts, pattern=matrix.pattern)


def movement(matrix: Matrix, _: Hyperparameters) -> MaskedLinear:
    """S trains from zero beside the weights (Sanh et al. 2020, arXiv 2005.07683)."""
    # Float32 whatever the weight's type: many small steps have to add up.
    score_OI = nn.Parameter(torch.zeros_like(matrix.weight_OI, dtype=torch.float32))
    return _scored(matrix, score_OI)


def random(matrix: Matrix, _: Hyperparameters) -> MaskedLinear:
    """S is drawn once and stays: what any criterion has to beat (Liu et al. 2022, 2202.02643)."""
    return _scored(matrix, torch.rand_like(matrix.weight_OI, dtype=torch.float32))


def wanda(matrix: Matrix, _: Hyperparameters) -> MaskedLinear:
    """One-shot, from |W| and the inputs' norms (Sun et al. 2023, arXiv 2306.11695).

    Until `pst_core.wanda.calibrate` has seen inputs, every entry scores the same.
    """
    return _scored(matrix, torch.zeros_like(matrix.weight_OI, dtype=torch.float32))


def _scored(matrix: Matrix, score_OI: Tensor) -> MaskedLinear:
    return MaskedLinear(
        matrix.weight_OI,
        matrix.bias_O,
        score_OI=score_OI,
        parts=matrix.parts,
        pattern=matrix.pattern,
    )


CRITERIA: dict[Method, Criterion] = {
    "pst": pst,
    "magnitude": magnitude,
    "movement": movement,
    "random": random,
    "wanda": wanda,
}
