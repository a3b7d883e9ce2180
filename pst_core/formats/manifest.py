"""``pst.json``: what a checkpoint folder holds, with the hash of each file and what was verified.

No times and no machine names, so that the same run gives the same bytes. Free of torch.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pst_core.errors import CheckpointCorruptError
from pst_core.fields import Strict
from pst_core.report import Outcome, Scores
from pst_core.spec import Format

MANIFEST = "pst.json"


class FileEntry(Strict):
    size: Annotated[int, Field(ge=0)]
    sha256: str


class Attestation(Strict):
    """What a fresh process found when it opened the checkpoint again."""

    zeros: Annotated[int, Field(ge=0)]
    """In the pruned matrices, counted in the file."""
    equals_dense: bool
    """Every tensor is bit for bit that of the dense export."""
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
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder.

    Raises:
        CheckpointCorruptError: It is missing or not ours.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointCorruptError(f"{folder / MANIFEST} cannot be read: {error}") from error


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file in a folder but the manifest itself, sorted by name."""
    return {
        path.name: FileEntry(size=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
