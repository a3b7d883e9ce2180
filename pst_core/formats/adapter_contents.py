"""What an adapter's file says of itself, of its base model and of the model that the two make.

The tensors are adapter_tensors.py's. Free of torch.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from pst_core.errors import CheckpointCorruptError, CheckpointVersionError
from pst_core.fields import Strict, Text

VERSION = 1
# The tensors that make a pruned matrix, named by it and by these.
PARTS = (":U", ":V", ":mask")

Dtype = Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class TensorEntry(Strict):
    """One tensor of a model."""

    dtype: Dtype
    """As safetensors calls it."""
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    sha256: Sha256
    """Of its bytes as safetensors stores them: little-endian, row-major."""


class BaseEntry(Strict):
    """The model an adapter was made from."""

    reference: Text
    sha256: Sha256
    """Of what is taken from it: `listing_sha256`."""


class Contents(Strict):
    version: Literal[1] = 1
    base: BaseEntry
    betas: dict[str, float]
    """β of each pruned matrix, by its name: M ⊙ (W + β·U V)."""
    stored: dict[str, Sha256]
    """What is in the file, by name: the parts of each matrix, and other tensors in full."""
    tensors: dict[str, TensorEntry]
    """All tensors of the dense model, by name. What the file holds neither in full nor in parts
    is the base model's."""


class _Versioned(BaseModel):
    version: Annotated[int, Field(ge=1)]


def dump(contents: Contents) -> str:
    """The contents as JSON, the same text for the same contents."""
    return json.dumps(contents.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def require_version(document: str) -> None:
    """Raise unless this release reads the version that the contents, as JSON, have."""
    try:
        version = _Versioned.model_validate_json(document).version
    except ValidationError as error:
        raise CheckpointCorruptError(f"The adapter does not say its version: {error}") from error
    if version > VERSION:
        raise CheckpointVersionError(
            f"The adapter has version {version}, this release reads up to {VERSION}.",
            remedy="Upgrade pst-service.",
        )


def parse(document: str) -> Contents:
    """The contents from their JSON.

    Raises:
        CheckpointCorruptError: They are malformed, or contradict themselves.
    """
    try:
        contents = Contents.model_validate_json(document)
    except ValidationError as error:
        raise CheckpointCorruptError(f"The adapter's contents are malformed: {error}") from error
    parts = {name + part for name in contents.betas for part in PARTS}
    lacking = (contents.betas.keys() - contents.tensors.keys()) | (parts - contents.stored.keys())
    idle = contents.stored.keys() - parts - (contents.tensors.keys() - contents.betas.keys())
    if lacking or idle:
        raise CheckpointCorruptError(
            f"The adapter's contents contradict themselves on {min(lacking | idle)}."
        )
    return contents


def listing_sha256(tensors: Mapping[str, TensorEntry]) -> str:
    """One hash of many tensors: of a line for each, sorted by name, that ends in its own hash."""
    digest = hashlib.sha256()
    for name, entry in sorted(tensors.items()):
        shape = ",".join(map(str, entry.shape))
        digest.update(f"{name} {entry.dtype} [{shape}] {entry.sha256}\n".encode())
    return digest.hexdigest()
