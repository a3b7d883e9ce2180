"""Calibration for the one-shot criterion `wanda`: no gradients, no training."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pst_core.batches import Batch
from pst_core.convert import Converted
from pst_core.errors import UnsupportedModelError
from pst_core.layers import MaskedLinear, SparseLinear

# What a block is called with, by position and by name.
Call = tuple[tuple[Any, ...], dict[str, Any]]


@torch.inference_mode()
def calibrate(
    model: PreTrainedModel, converted: Converted, batches: Sequence[Batch], sparsity: float
) -> None:
    """Score |W_ij|·‖x_j‖₂ within each row, block after block (Sun et al. 2023, section 3).

    Each block is scored by what reaches it once the blocks before it are pruned, as the authors do.
    Every row loses the same share of its entries; where that is no whole number, the entries to
    round with are those of the lowest rank within their row.

    Args:
        model: With the layers of the criterion `wanda`.
        converted: Those layers.
        batches: Examples to run; padding is not counted.
        sparsity: Left set on every layer.

    Raises:
        UnsupportedModelError: The layers are not in one stack of blocks, each of which runs once.
    """
    model.eval()
    # The inputs of the first block are those of the model as it came.
    converted.set_sparsity(0.0)
    blocks = _blocks(model, converted.layers)
    calls = [_calls(model, list(blocks), batch) for batch in batches]
    if not all(call[0][0] for call in calls):
        raise _unsupported("the blocks take their input by name")
    hidden = [call[0][0][0] for call in calls]
    for index, (block, layers) in enumerate(blocks.items()):
        squares: dict[nn.Module, Tensor] = {
            layer: torch.zeros_like(layer.weight[0], dtype=torch.float32) for layer in layers
        }
        for batch, state, call in zip(batches, hidden, calls, strict=True):
            with _summing(squares, batch.attention_mask):
                _run(block, state, call[index])
        for layer in layers:
            _score(layer, squares[layer].sqrt())
            layer.sparsity = sparsity
        hidden = [
            _run(block, state, call[index]) for state, call in zip(hidden, calls, strict=True)
        ]


def _blocks(
    model: PreTrainedModel, layers: Mapping[str, SparseLinear]
) -> dict[nn.Module, list[SparseLinear]]:
    """The blocks in order, each with its sparse layers; blocks without any are there as well."""
    prefix, stack = next(
        (f"{name}.", module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and any(n.startswith(f"{name}.") for n in layers)
    )
    inside: dict[int, list[SparseLinear]] = defaultdict(list)
    for name, layer in layers.items():
        if not name.startswith(prefix):
            raise _unsupported(f"{name} is not one of the blocks {prefix}*")
        inside[int(name.removeprefix(prefix).partition(".")[0])].append(layer)
    return {block: inside[index] for index, block in enumerate(stack)}


def _calls(model: PreTrainedModel, blocks: Sequence[nn.Module], batch: Batch) -> list[Call]:
    """What each block is called with; of the hidden states only the first block's are kept."""
    calls: list[Call] = []
    order: list[nn.Module] = []

    def note(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        order.append(block)
        calls.append((args if not calls else (None, *args[1:]), kwargs))

    hooks = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        model(**batch.to(model.device).inputs(), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if order != list(blocks):
        raise _unsupported("its blocks do not run once each, one after the other")
    return calls


def _unsupported(why: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"wanda prunes block after block, and of this model {why}.",
        field="method",
        remedy="Use another method.",
    )


def _run(block: nn.Module, hidden: Tensor, call: Call) -> Tensor:
    args, kwargs = call
    out = block(hidden, *args[1:], **kwargs)
    state: Tensor = out[0] if isinstance(out, tuple) else out
    return state


@contextmanager
def _summing(squares: dict[nn.Module, Tensor], mask_BT: Tensor) -> Iterator[None]:
    """Add up the squares of each layer's inputs, I, over all tokens but the padding."""

    def add(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        # Some models give B×T×I, others B·T×I.
        x_NI = args[0].flatten(0, -2).float()
        squares[layer] += mask_BT.flatten().to(x_NI) @ x_NI.square()

    hooks = [layer.register_forward_pre_hook(add) for layer in squares]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _score(layer: SparseLinear, norm_I: Tensor) -> None:
    if not isinstance(layer, MaskedLinear) or layer.S is None:
        raise TypeError(f"{type(layer).__name__} has no score of its own to calibrate.")
    importance_OI = layer.weight.abs().float() * norm_I
    # Its rank within its row makes the one threshold of the layer a threshold for each row.
    layer.S.copy_(importance_OI.argsort(dim=1, stable=True).argsort(dim=1))
