"""Buffers that layers use one after the other: on the CPU, fresh memory costs more than it holds.

On a GPU torch's allocator does the same, stream by stream, so there a buffer is a new tensor.
"""

import threading

import torch
from torch import Tensor


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_slot: dict[tuple[str, torch.dtype], Tensor] = {}


_buffers = _Buffers()


def scratch(slot: str, like: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """A contiguous tensor of another's shape and device whose content is anything.

    It is good until the same thread asks for the same slot again.

    Args:
        slot: What it is used for; two slots never share memory.
        like: The tensor whose shape, device and (unless given) dtype it has.
        dtype: Its dtype.
    """
    dtype = dtype or like.dtype
    if like.device.type != "cpu":
        return torch.empty(like.shape, dtype=dtype, device=like.device)
    buffers, key = _buffers.by_slot, (slot, dtype)
    if key not in buffers or buffers[key].numel() < like.numel():
        # Let go of the smaller one first.
        buffers.pop(key, None)
        # What is made in inference mode could not be written to in training.
        with torch.inference_mode(mode=False):
            buffers[key] = torch.empty(like.numel(), dtype=dtype)
    return buffers[key][: like.numel()].view(like.shape)
