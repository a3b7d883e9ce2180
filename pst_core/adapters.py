"""Adapters and the base models they need: made, loaded, and turned back into dense folders.

How the file looks is formats/adapter.py's.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pst_core.errors import BaseMismatchError, CheckpointCorruptError, ModelNotFoundError
from pst_core.factors import Factors
from pst_core.formats import adapter
from pst_core.formats.adapter_tensors import Update
from pst_core.formats.mask_coding import Mask
from pst_core.loading import verify_files
from pst_core.pretrained import load_tensors, model_class, model_types


def make_adapter(
    dense_dir: Path,
    base: Path,
    factors: Mapping[str, Factors],
    masks: Mapping[str, Mask],
    out_dir: Path,
    *,
    reference: str,
) -> None:
    """Write a dense folder as an adapter of the model it was made from.

    Args:
        dense_dir: What `write_dense` wrote.
        base: The folder or GGUF file of the base model; it is loaded again.
        factors: What trained of each pruned matrix, by its name in the dense folder.
        masks: Of the same matrices, bool, as stored.
        out_dir: The folder to make; it appears whole or not at all.
        reference: What the base model is called.

    Raises:
        ValueError: The base model, factors and masks do not make the dense folder.
        UnsupportedModelError: The base model cannot be loaded.
        FileExistsError: `out_dir` holds something.
    """
    updates = {name: Update(factors[name], mask) for name, mask in masks.items()}
    tensors = load_tensors(model_class(dense_dir), base)
    adapter.write_adapter(dense_dir, tensors, updates, out_dir, reference=reference)


def rebuild(
    adapter_dir: str | os.PathLike[str], base: str | os.PathLike[str], out_dir: Path
) -> None:
    """Write the dense folder that an adapter and its base model make.

    Every tensor is bit for bit as it was exported; other files come from the adapter.

    Args:
        adapter_dir: The adapter's folder.
        base: The folder or GGUF file of its base model.
        out_dir: The folder to make; it appears whole or not at all.

    Raises:
        ModelNotFoundError: There is no such adapter or base model.
        BaseMismatchError: The adapter was made from another base model.
        UnsupportedModelError: The base model cannot be loaded.
        CheckpointCorruptError: The adapter is malformed or altered; names the file or the tensor.
        CheckpointVersionError: A newer release wrote it.
        FileExistsError: `out_dir` holds something.
    """
    folder = _checked(adapter_dir)
    adapter.rebuild(folder, _base_tensors(folder, base), out_dir)


def load_adapter(
    adapter_dir: str | os.PathLike[str], base: str | os.PathLike[str] | PreTrainedModel
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an adapter with its base model, as `load` loads the dense folder that they make.

    Args:
        adapter_dir: The adapter's folder.
        base: The folder or GGUF file of its base model; or that model as transformers loaded it,
            with or without a head, which stays as it is and shares no memory with the result.

    Returns:
        The model, of the class that config.json names, in evaluation mode, dense and trainable;
        and the tokenizer.

    Raises:
        PstError: As `rebuild`.
    """
    folder = _checked(adapter_dir)
    with adapter.opened(folder) as opened:
        dense = opened.over(_base_tensors(folder, base))
        tensors = {name: dense.tensor(name) for name in opened.contents.tensors}
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return _fill(folder, tensors), tokenizer


def _checked(adapter_dir: str | os.PathLike[str]) -> Path:
    folder = Path(adapter_dir)
    if not adapter.is_adapter(folder):
        raise ModelNotFoundError(f"There is no adapter in {folder}.")
    verify_files(folder)
    return folder


def _base_tensors(
    adapter_dir: Path, base: str | os.PathLike[str] | PreTrainedModel
) -> Mapping[str, Tensor]:
    if isinstance(base, PreTrainedModel):
        return base.state_dict()
    path = Path(base)
    if not path.exists():
        raise ModelNotFoundError(f"There is no model {path}.")
    # Otherwise one of another architecture would be made at random, in its full size.
    (wanted, *_), found = model_types(adapter_dir), model_types(path)
    if wanted not in found:
        raise BaseMismatchError(
            f"{path} is a model of the type {found[0]}; {adapter_dir} was made from a {wanted}."
        )
    return load_tensors(model_class(adapter_dir), path)


def _fill(folder: Path, tensors: dict[str, Tensor]) -> PreTrainedModel:
    """The model that a folder's configuration describes, with these tensors as its own."""
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    generation = (folder / "generation_config.json").is_file()
    loaded: Any = model_class(folder).from_pretrained(
        None,
        config=AutoConfig.from_pretrained(folder, **here),
        generation_config=GenerationConfig.from_pretrained(folder, **here) if generation else None,
        state_dict=tensors,
        dtype="auto",
        output_loading_info=True,
    )
    model: PreTrainedModel
    model, report = loaded
    if report["missing_keys"]:
        raise CheckpointCorruptError(
            f"{folder} lacks the tensors {sorted(report['missing_keys'])}."
        )
    model.name_or_path = model.config.name_or_path = str(folder)
    return model
