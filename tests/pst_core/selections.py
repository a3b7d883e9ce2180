"""How often the masks of a model's layers are selected, which costs more than to use them."""

from collections.abc import Iterable

import pytest
from torch import Tensor

from pst_core.layers import SparseLinear
from pst_core.masks import Selector


class Selections:
    """Counts how often each layer's mask is selected, from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._selectors: list[Selector] = []
        select = Selector.select

        def noted(
            selector: Selector, score_OI: Tensor, sparsity: float, out: Tensor | None = None
        ) -> Tensor:
            self._selectors.append(selector)
            return select(selector, score_OI, sparsity, out)

        monkeypatch.setattr(Selector, "select", noted)

    def of(self, layers: Iterable[SparseLinear]) -> list[int]:
        return [self._selectors.count(layer.selector) for layer in layers]
