"""Safetensors files one tensor at a time: what lies where in one, and how it is written anew.

Which files make a folder's weights is known to packed.py.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8  # of the first tensor's bytes, which lets readers map them as they are


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; its bytes are those from `begin` to `end` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def entries(self) -> int:
        return math.prod(self.shape)


def read_entries(path: Path) -> list[Entry]:
    """What a file holds, in the order of the bytes.

    Raises:
        SafetensorError: It is malformed.
        OSError: It cannot be read.
    """
    # Refuses what does not fit together, down to the last byte, so that nothing below has to.
    with safe_open(path, framework="numpy"):
        pass
    with path.open("rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    start = _LENGTH.size + length
    entries = [
        Entry(name, about["dtype"], tuple(about["shape"]), *(start + at for at in offsets))
        for name, about in header.items()
        for offsets in [about["data_offsets"]]
    ]
    return sorted(entries, key=lambda entry: (entry.begin, entry.end))


def rewrite(
    source: Path,
    target: Path,
    shape_of: Callable[[Entry], tuple[int, ...]],
    convert: Callable[[str, "Tensor"], "Tensor"],
) -> int:
    """Write a file anew with other shapes; dtypes, order and metadata stay.

    One tensor is in memory at a time.

    Args:
        source: The file to read.
        target: The file to make.
        shape_of: The new shape of each tensor, which is asked first.
        convert: The new tensor of that shape, by name and old tensor.

    Returns:
        The bytes of all new tensors.

    Raises:
        SafetensorError: The file is malformed.
        OSError: It cannot be read, or the new one not be written.
    """
    entries = read_entries(source)
    shapes = {entry.name: shape_of(entry) for entry in entries}
    header: dict[str, object] = {}
    end = 0
    for entry in entries:
        shape = shapes[entry.name]
        size = (entry.end - entry.begin) * math.prod(shape) // max(entry.entries, 1)
        begin, end = end, end + size
        header[entry.name] = {"dtype": entry.dtype, "shape": shape, "data_offsets": (begin, end)}
    with safe_open(source, framework="pt") as old, target.open("wb") as new:
        metadata = {"__metadata__": old.metadata()} if old.metadata() else {}
        text = json.dumps(metadata | header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        new.write(_LENGTH.pack(len(text)) + text)
        for entry in entries:
            tensor = convert(entry.name, old.get_tensor(entry.name))
            if tensor.shape != shapes[entry.name]:
                raise ValueError(f"Tensor {entry.name} became {tuple(tensor.shape)}.")
            new.write(_bytes_of(tensor))
    return end


def _bytes_of(tensor: "Tensor") -> memoryview:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
