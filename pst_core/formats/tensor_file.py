"""Safetensors files tensor by tensor, as bytes: nothing but the one at hand is in memory.

The layout is safetensors' own (github.com/huggingface/safetensors, "Format"); what the bytes mean
is not known here.
"""

import json
import math
import mmap
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pst_core.errors import CheckpointCorruptError

Bytes = NDArray[np.uint8]
# numpy's type of each float dtype that can be packed; bfloat16 is the integer of its bits.
FLOATS: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in (("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("BF16", "<u2"))
}
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; its bytes are those from `begin` to `end`, counted from the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class TensorReader:
    """The tensors of an open file, in the order of their bytes.

    Args:
        file: Stays open as long as this is used.
        name: Of the file, without its folder.
        header: As it stands in the file.
        start: Where the data begins.
    """

    def __init__(self, file: BinaryIO, name: str, header: Mapping[str, Any], start: int) -> None:
        self._file = file
        self.name = name
        self._start = start
        self.metadata: dict[str, str] = header.get("__metadata__", {})
        entries = (
            Entry(name, found["dtype"], tuple(found["shape"]), *found["data_offsets"])
            for name, found in header.items()
            if name != "__metadata__"
        )
        self.entries = sorted(entries, key=lambda entry: (entry.begin, entry.end))

    def read(self, entry: Entry) -> Bytes:
        """All bytes of one tensor, mapped and not copied; they can't be written to."""
        count = entry.end - entry.begin
        if count == 0:
            return np.empty(0, np.uint8)
        start = self._start + entry.begin
        before = start % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._file.fileno(), before + count, access=mmap.ACCESS_READ, offset=start - before
        )
        return np.frombuffer(mapped, np.uint8, count, before)

    def read_pieces(self, entry: Entry, dtype: np.dtype[Any], count: int) -> Iterator[NDArray[Any]]:
        """One tensor as flat arrays of at most `count` entries."""
        self._file.seek(self._start + entry.begin)
        for begin in range(0, entry.size, count):
            yield np.fromfile(self._file, dtype, min(count, entry.size - begin))


@contextmanager
def opened(path: Path) -> Iterator[TensorReader]:
    """Open a safetensors file.

    Raises:
        CheckpointCorruptError: It cannot be read, or its parts do not fit together; names it.
    """
    try:
        # Refuses what does not fit together, down to the last byte, so that nothing here has to.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            header = json.loads(file.read(length))
            yield TensorReader(file, path.name, header, _LENGTH.size + length)
    except (SafetensorError, OSError) as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error}.") from error


class TensorWriter:
    """Writes a safetensors file tensor by tensor; as a context manager, it is whole at the end.

    Tensors of wider dtypes have to come first, that each stands where its width divides.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._path = path
        self._header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        self._end = 0
        # The header comes first in the file, and its length is known last.
        self._body_path = path.with_name(f"{path.name}.body")
        self._body = self._body_path.open("xb")

    def add(self, name: str, dtype: str, shape: tuple[int, ...], data: bytes | memoryview) -> None:
        begin, self._end = self._end, self._end + len(data)
        self._header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [begin, self._end],
        }
        self._body.write(data)

    @property
    def data_bytes(self) -> int:
        return self._end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._body.close()
        if kind is None:
            self._assemble()
        self._body_path.unlink()

    def _assemble(self) -> None:
        text = json.dumps(self._header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        with self._path.open("xb") as file, self._body_path.open("rb") as body:
            file.write(_LENGTH.pack(len(text)) + text)
            file.flush()
            shutil.copyfileobj(body, file, 1 << 20)
            os.fsync(file.fileno())
