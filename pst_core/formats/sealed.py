"""Safetensors files with one text of metadata and a header that cannot change unseen.

The text is for the reader to understand; the hashes of the tensors are to be in it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pst_core.errors import CheckpointCorruptError

# The tensor whose 32 bytes are the SHA-256 of the header.
SEAL = "header.sha256"
# Parsed, a header takes several times its size; those of the largest models have a tenth of this.
MAX_HEADER = 1 << 24

_KEY = "pst"
_LENGTH = 8


def save_sealed(tensors: Mapping[str, Tensor], text: str, path: Path) -> None:
    """Write a file; equal tensors and texts give equal bytes.

    Raises:
        ValueError: There is too much to say for a header.
    """
    seal = torch.zeros(hashlib.sha256().digest_size, dtype=torch.uint8)
    # One entry of metadata: safetensors writes several in any order.
    save_file({**tensors, SEAL: seal}, path, metadata={_KEY: text})
    header = _read_header(path)
    if len(header) > MAX_HEADER:
        raise ValueError(f"A header of {len(header)} bytes is more than {MAX_HEADER}.")
    with path.open("r+b") as file:
        file.seek(_LENGTH + len(header) + json.loads(header)[SEAL]["data_offsets"][0])
        file.write(hashlib.sha256(header).digest())


@contextmanager
def opened_sealed(path: Path) -> Iterator[tuple[Any, str]]:
    """Open a file: safetensors' view of it, and its text; `check_seal` is still to come.

    Raises:
        CheckpointCorruptError: It is missing, malformed, or another kind of file.
    """
    try:
        with path.open("rb") as start:
            length = int.from_bytes(start.read(_LENGTH), "little")
        if length > MAX_HEADER:
            raise CheckpointCorruptError(f"{path} cannot be read: its header is too long.")
        handle = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error}") from error
    with handle as file:
        text = (file.metadata() or {}).get(_KEY)
        if text is None:
            raise CheckpointCorruptError(f"{path} has no contents in its header.")
        yield file, text


def check_seal(path: Path) -> None:
    """Raise CheckpointCorruptError unless the header is as it was written."""
    with safe_open(path, framework="pt") as file:
        digest = hashlib.sha256(_read_header(path)).digest()
        if SEAL in file.keys():  # noqa: SIM118 -- no mapping, it only looks like one
            view = file.get_slice(SEAL)
            fits = view.get_dtype() == "U8" and view.get_shape() == [len(digest)]
            if fits and file.get_tensor(SEAL).numpy().tobytes() == digest:
                return
    raise CheckpointCorruptError(f"The header of {path} is altered.")


def _read_header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(_LENGTH), "little"))
