"""One forward pass of a model without weights: what it computes, and what it keeps to train.

On the `meta` device tensors have shapes and no content; every operation is done but its work.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward of one example, in float32.

    Args:
        flops: Of the forward alone.
        kept_bytes: What is kept for the backward, parameters apart.
        largest_bytes: The largest tensor of those.
    """

    flops: float
    kept_bytes: float
    largest_bytes: float


# More than one, or operations that drop a dimension of one element would look otherwise.
EXAMPLES = 2


def run(model: PreTrainedModel, length: int, *, fused_dropout: bool) -> Pass:
    """Pass two examples of so many tokens through a skeleton, forwards.

    Args:
        model: Plain, on the `meta` device.
        length: Tokens.
        fused_dropout: Whether the device has an attention with dropout that keeps no probabilities.
    """
    model.requires_grad_(requires_grad=True)
    model.train()
    ids_BT = torch.zeros(EXAMPLES, length, dtype=torch.long, device="meta")
    kept: dict[int, Tensor] = {}
    owned = {_storage(parameter) for parameter in model.parameters()}
    with (
        _padding_known(model),
        _Attention(fused_dropout=fused_dropout),
        FlopCounterMode(display=False) as flops,
        torch.autograd.graph.saved_tensors_hooks(_note(kept, owned), lambda tensor: tensor),
    ):
        logits = model(input_ids=ids_BT).logits
        # As every loss does.
        loss = nn.functional.log_softmax(logits.float(), -1)
    kept[_storage(loss)] = loss
    sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
    return Pass(
        flops=flops.get_total_flops() / EXAMPLES,
        kept_bytes=sum(sizes) / EXAMPLES,
        largest_bytes=max(sizes) / EXAMPLES,
    )


def _note(kept: dict[int, Tensor], owned: set[int]) -> Callable[[Tensor], Tensor]:
    def note(tensor: Tensor) -> Tensor:
        # Views of one memory are kept once; held here, the memory gets no other's number.
        if (storage := _storage(tensor)) not in owned:
            kept[storage] = tensor
        return tensor

    return note


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 -- on `meta` none has an address


@contextmanager
def _padding_known(model: PreTrainedModel) -> Iterator[None]:
    """Keep a decoder with a head from looking where its texts end: there are none."""
    before = model.config.pad_token_id
    model.config.pad_token_id = before if before is not None else 0
    try:
        yield
    finally:
        model.config.pad_token_id = before


class _Attention(TorchFunctionMode):
    """Attention as devices compute it; on `meta` it would always be the plain one.

    Without dropout (or where the device's kernels have it) the probabilities are never kept.
    """

    def __init__(self, *, fused_dropout: bool) -> None:
        super().__init__()
        self._fused_dropout = fused_dropout

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        del types
        kwargs = kwargs or {}
        if func is Tensor.__contains__:
            # Whether a text is padded: it has no values to tell.
            return False
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        dropout = kwargs.get("dropout_p", 0.0)
        if dropout and not self._fused_dropout:
            return func(*args, **kwargs)
        # As all of transformers calls it.
        query, key, value = args[:3]
        if key.shape[1] != query.shape[1]:
            groups = query.shape[1] // key.shape[1]
            key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
        return _FusedAttention.apply(query, key, value)


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # The products are counted, and nothing of them stays.
        out = (query @ key.transpose(-2, -1)) @ value
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise NotImplementedError("only forwards are estimated")
