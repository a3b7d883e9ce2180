"""What a downloaded file must not be, whatever it is called: a pickled program, or a way to code.

Its bytes are those that the hub declares; whether they make a model is the trainer's to find.
"""

import json
from pathlib import Path
from typing import Any

from pst_core.errors import InvalidDatasetError, PstError, UnsupportedModelError
from worker.fetching.repository import FIELDS, What

# Where transformers looks for the names of classes that a repository brings.
NAMES_CODE = ("config.json", "tokenizer_config.json")
MAX_JSON = 256 * 1024 * 1024  # bytes; the largest vocabularies have a tenth
ZIP = b"PK\x03\x04"  # what torch.save writes; so does numpy
PICKLED = frozenset(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
HEADER_BYTES = 8  # that say how long a safetensors file's header is


def check(path: Path, what: What) -> None:
    """Refuse what only looks like what it is called.

    Raises:
        UnsupportedModelError: A model's file is pickled, no safetensors or no JSON, or names code.
        InvalidDatasetError: A dataset's file is pickled.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES + 1)
    if head[:2] in PICKLED or head.startswith(ZIP):
        raise _refused(what, f"{path.name} is pickled, whatever it is called.")
    if path.suffix == ".safetensors" and not _is_safetensors(head, path.stat().st_size):
        raise _refused(what, f"{path.name} is no safetensors file.")
    if what == "model" and path.suffix == ".json":
        content = _read(path)
        if path.name in NAMES_CODE and content.get("auto_map"):
            raise _refused(what, f"{path.name} names code that comes with the model (auto_map).")


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:HEADER_BYTES], "little")
    return head[HEADER_BYTES:] == b"{" and HEADER_BYTES + length <= size


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON:
        raise _refused("model", f"{path.name} has more than {MAX_JSON} bytes.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _refused("model", f"{path.name} is no JSON ({error}).") from error
    # Old vocabularies may be lists.
    return content if isinstance(content, dict) else {}


def _refused(what: What, message: str) -> PstError:
    if what == "dataset":
        return InvalidDatasetError(
            message, field=FIELDS[what], remedy="Use CSV, TSV, JSON lines or Parquet."
        )
    return UnsupportedModelError(
        message,
        field=FIELDS[what],
        remedy="Use a model of transformers' own classes, with safetensors: code and pickles of a "
        "repository are never run.",
    )
