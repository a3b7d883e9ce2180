"""Opens a finished checkpoint, packed or dense, and believes nothing in it before it is checked.

How the formats look is `formats/`; models that are to be compressed come in by references.py.
"""

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pst_core.download import fetch, is_url
from pst_core.errors import CheckpointCorruptError, ModelNotFoundError
from pst_core.formats import packed
from pst_core.formats.manifest import MANIFEST, read_sealed, sha256_of
from pst_core.pretrained import model_class


def load(
    location: str | os.PathLike[str],
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a checkpoint from a folder or from the service that made it.

    Where the folder has a `pst.json`, every file that it lists must have the listed size and
    SHA-256. No code from the folder is run and no pickle is opened.

    Args:
        location: A packed or a dense folder, with a tokenizer; or the URL of a finished job's
            checkpoint, `http…/jobs/{id}/checkpoint`, for which the environment's `PST_API_KEY`
            is used.

    Returns:
        The model, of the class that config.json names, in evaluation mode, dense and trainable,
        in the dtype it was saved in; and the tokenizer.

    Raises:
        ModelNotFoundError: There is no such folder, or the URL gives none.
        UnsupportedModelError: The model's class is not one of transformers'.
        CheckpointCorruptError: A file is missing or altered, a packed tensor's bytes are
            malformed, or weights are missing; names the file or the tensor.
        CheckpointVersionError: A newer release packed it.
    """
    text = os.fspath(location)
    if is_url(text):
        with tempfile.TemporaryDirectory(prefix="pst-") as scratch:
            return _load_folder(fetch(text, Path(scratch)))
    return _load_folder(Path(text))


def _load_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if not folder.is_dir():
        raise ModelNotFoundError(f"There is no folder {folder}.")
    verify_files(folder)
    model = _load_model(folder, model_class(folder))
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return model, tokenizer


def unpack_checkpoint(folder: Path, out_dir: Path) -> None:
    """Write a packed checkpoint as a dense folder, once its files are found unaltered.

    Args:
        folder: A packed folder.
        out_dir: The folder to make; it appears whole or not at all.

    Raises:
        CheckpointCorruptError: A file is missing or altered, or a tensor's bytes are malformed.
        CheckpointVersionError: A newer release packed it.
        FileExistsError: `out_dir` holds something.
    """
    verify_files(folder)
    packed.unpack(folder, out_dir)


def verify_files(folder: Path) -> None:
    """Check size and SHA-256 of every file that the folder's `pst.json` lists, if there is one.

    Raises:
        CheckpointCorruptError: A file is missing, of another size or altered, or the manifest
            cannot be read; names the file.
    """
    path = folder / MANIFEST
    if not path.exists():
        return
    files = read_sealed(path).get("files", {})
    if not isinstance(files, dict):
        raise CheckpointCorruptError(f"{path} lists no files.")
    for name, entry in files.items():
        if not isinstance(entry, dict) or not _stays_inside(name):
            raise CheckpointCorruptError(f"{path} has a malformed entry for {name!r}.")
        _verify_file(folder / name, entry.get("size"), entry.get("sha256"))


def _verify_file(path: Path, size: object, sha256: object) -> None:
    if not path.is_file():
        raise CheckpointCorruptError(f"{path} is missing; {MANIFEST} lists it.")
    # The size first: it costs nothing, and says more about a download that broke off.
    found = path.stat().st_size
    if found != size:
        raise CheckpointCorruptError(f"{path} has {found} bytes; {MANIFEST} says {size}.")
    if sha256_of(path) != sha256:
        raise CheckpointCorruptError(f"{path} is altered: its SHA-256 is not that of {MANIFEST}.")


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _load_model(folder: Path, kind: type[PreTrainedModel]) -> PreTrainedModel:
    try:
        loaded: Any = kind.from_pretrained(
            folder,
            dtype="auto",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except RuntimeError:
        # transformers logs what went wrong in which tensor, and raises without it: look again.
        if packed.is_packed(folder):
            for _ in packed.read_tensors(folder):
                pass
        raise
    model: PreTrainedModel
    model, report = loaded
    if report["missing_keys"]:
        # transformers would leave random numbers in their place, and only warn.
        raise CheckpointCorruptError(
            f"{folder} lacks the tensors {sorted(report['missing_keys'])}."
        )
    return model
