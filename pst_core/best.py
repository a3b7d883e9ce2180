"""The best of a run by its validations: kept, and whether a better one is still to be expected."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pst_core.recipes import Hyperparameters


class Best:
    """Judges scores as they come.

    Args:
        parameters: What is kept of the model.
        hyper: Whether anything is kept, and how many misses in a row are too many.

    Attributes:
        score: The highest so far; None before the first.
        misses: Scores in a row that were no better.
        kept: The parameters as they were at the best; None where they are not kept.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], hyper: Hyperparameters) -> None:
        self._parameters = parameters
        self._hyper = hyper
        self.score: float | None = None
        self.misses = 0
        self.kept: list[Tensor] | None = None

    def is_worth_more(self, score: float) -> bool:
        """Take the model's score; false where too many in a row were no better."""
        if self.score is None or score > self.score:
            self.score, self.misses = score, 0
            if self._hyper.keep_best:
                self.kept = [parameter.detach().clone() for parameter in self._parameters]
        else:
            self.misses += 1
        return not self._hyper.patience or self.misses < self._hyper.patience

    @torch.no_grad()
    def restore(self) -> None:
        """Write what was kept, if anything, into the parameters."""
        for parameter, kept in zip(self._parameters, self.kept or (), strict=False):
            parameter.copy_(kept)

    def go_on(self, score: float | None, misses: int, kept: Sequence[Tensor]) -> None:
        """Be what another was; it may have kept nothing."""
        self.score, self.misses = score, misses
        if kept:
            pairs = zip(self._parameters, kept, strict=True)
            self.kept = [each.to(parameter.device) for parameter, each in pairs]
