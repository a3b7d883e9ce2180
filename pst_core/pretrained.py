"""Pretrained models and tokenizers as the start of a compression; nothing of theirs is executed.

Finished checkpoints are opened by loading.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pst_core.convert import head_parameters, prunable_linears
from pst_core.errors import UnsupportedModelError

# Their positions start behind the padding token's number.
OFFSET_POSITIONS = ("camembert", "roberta", "xlm-roberta")


def device() -> torch.device:
    """The device this process was given; the supervisor decides what it sees."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(model: PreTrainedModel) -> PreTrainedModel:
    moved: PreTrainedModel = nn.Module.to(model, device())
    return moved


def load_tokenizer(folder: Path, *, max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that has positions for texts of ``max_length`` tokens.

    Raises:
        UnsupportedModelError: It cannot be loaded, or the model has fewer positions.
    """
    with _as_unsupported("The tokenizer cannot be loaded"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    positions = getattr(config, "max_position_embeddings", max_length)
    if config.model_type in OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    if max_length > positions:
        raise UnsupportedModelError(
            f"max_length is {max_length}, and the model has {positions} positions.",
            field="hyperparameters.max_length",
            remedy=f"Ask for {positions} at the most.",
        )
    return tokenizer


def load_classifier(folder: Path, labels: tuple[str, ...], *, seed: int) -> PreTrainedModel:
    """A pretrained encoder with a head for these labels, in float32, on this process's device.

    A head that is missing, or was made for another number of labels, starts at random from the
    seed; anything else must come from the folder.

    Raises:
        UnsupportedModelError: It cannot be loaded as a classifier, has nothing to prune, or weights
            outside the head are missing.
    """
    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    with _as_unsupported("The model cannot be loaded as a classifier"):
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(names),
            id2label=names,
            label2id={label: number for number, label in names.items()},
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model: PreTrainedModel
    model, info = loaded
    _check_only_head_is_new(model, info)
    prunable_linears(model)
    return to_device(model)


def _check_only_head_is_new(model: PreTrainedModel, info: dict[str, Any]) -> None:
    mismatched = {entry[0] for entry in info["mismatched_keys"]}
    new = (set(info["missing_keys"]) | mismatched) - set(head_parameters(model))
    if new:
        raise UnsupportedModelError(
            f"The model lacks weights for {len(new)} tensors, such as {min(new)}.",
            field="model",
            remedy="Use a complete pretrained encoder that fits its config.json.",
        )


@contextmanager
def _as_unsupported(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UnsupportedModelError(
            f"{what}: {error}",
            field="model",
            remedy="Use an encoder such as BERT, RoBERTa or DistilBERT, with *.safetensors.",
        ) from error
