"""``pst.json``: what a checkpoint folder holds, with the hash of each file and what was verified.

No times and no machine names, so that the same run gives the same bytes. Free of torch.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pst_core.errors import CheckpointCorruptError
from pst_core.fields import Strict
from pst_core.formats.folder import read_json
from pst_core.report import Outcome, Scores
from pst_core.spec import Format

MANIFEST = "pst.json"
_NO_SEAL = "0" * 64
_SEAL = re.compile(rb'"seal": "([0-9a-f]{64})"\n}\n\Z')


class FileEntry(Strict):
    size: Annotated[int, Field(ge=0)]
    sha256: str


class TensorRecord(Strict):
    """One tensor in dense form, however the folder stores it."""

    dtype: str
    """As safetensors names it."""
    shape: tuple[int, ...]
    zeros: int | None
    """By value: 0.0 and -0.0; null: not counted in this dtype."""
    sha256: str
    """Of its bytes in row-major order, little-endian."""


class Attestation(Strict):
    """What a fresh process found when it opened the checkpoint again."""

    tensors: dict[str, TensorRecord]
    zeros: Annotated[int, Field(ge=0)] | None
    """In the pruned matrices, counted in the file; null: the format has other matrices."""
    equals_dense: bool
    """Every tensor is bit for bit that of the dense export, rounded where that was asked for. False
    for `compact` and `onnx`, whose answers are compared instead."""
    test: Scores
    """Of the model as loaded from this folder."""


class Manifest(Strict):
    version: Literal[1] = 1
    format: Format
    outcome: Outcome
    files: dict[str, FileEntry]
    attestation: Attestation | None = None
    """Null where nothing has been verified yet."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_sealed(folder / MANIFEST, manifest.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder.

    Raises:
        CheckpointCorruptError: It is missing, altered or not ours.
    """
    document = read_sealed(folder / MANIFEST)
    try:
        return Manifest.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise CheckpointCorruptError(f"{folder / MANIFEST} cannot be read: {error}") from error


def write_sealed(path: Path, document: dict[str, Any]) -> None:
    """Write JSON that ends with a hash of itself: with its digits as zeros, it has that SHA-256."""
    text = json.dumps(document | {"seal": _NO_SEAL}, indent=2, ensure_ascii=False) + "\n"
    head, _, tail = text.rpartition(_NO_SEAL)
    seal = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(head + seal + tail, encoding="utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the seal.

    Raises:
        CheckpointCorruptError: It is missing or altered.
    """
    document = read_json(path)
    data = path.read_bytes()
    found = _SEAL.search(data)
    unsealed = found and data[: found.start(1)] + _NO_SEAL.encode() + data[found.end(1) :]
    if found is None or hashlib.sha256(unsealed or b"").hexdigest() != found[1].decode():
        raise CheckpointCorruptError(f"{path} is altered: its seal is not that of its content.")
    del document["seal"]
    return document


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file in a folder but the manifest itself, sorted by name."""
    paths = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    return {
        name: FileEntry(size=paths[name].stat().st_size, sha256=sha256_of(paths[name]))
        for name in sorted(paths)
        if name != MANIFEST
    }


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
