"""Pretrained models and tokenizers as the start of a compression; nothing of theirs is executed.

Finished checkpoints are opened by loading.py.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pst_core.errors import UnsupportedModelError
from pst_core.formats.folder import read_json

# Their positions start behind the padding token's number.
OFFSET_POSITIONS = ("camembert", "roberta", "xlm-roberta")


class AutoClass(Protocol):
    """One of transformers' AutoModelFor… classes, which share no base."""

    def from_pretrained(self, pretrained_model_name_or_path: Path, **options: Any) -> object: ...


def device() -> torch.device:
    """The device this process was given; the supervisor decides what it sees."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(model: PreTrainedModel) -> PreTrainedModel:
    moved: PreTrainedModel = nn.Module.to(model, device())
    return moved


def load_tokenizer(path: Path, *, max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that has positions for texts of ``max_length`` tokens.

    Args:
        path: The model's folder, or its GGUF file.
        max_length: Tokens a text may have.

    Raises:
        UnsupportedModelError: It cannot be loaded, or the model has fewer positions.
    """
    with _as_unsupported("The tokenizer cannot be loaded"):
        config = AutoConfig.from_pretrained(**_locally(path))
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**_locally(path))
    positions = getattr(config, "max_position_embeddings", None) or max_length
    if config.model_type in OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    if max_length > positions:
        raise UnsupportedModelError(
            f"max_length is {max_length}, and the model has {positions} positions.",
            field="hyperparameters.max_length",
            remedy=f"Ask for {positions} at the most.",
        )
    if tokenizer.pad_token is None:
        # What pads is masked; a model that was made without padding takes its end for it.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_class(folder: Path) -> type[PreTrainedModel]:
    """The class that a folder's config.json names, one of transformers'.

    Raises:
        UnsupportedModelError: transformers has none of that name.
        CheckpointCorruptError: There is no config.json to read.
    """
    architectures = read_json(folder / "config.json").get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    if isinstance(found, type) and issubclass(found, PreTrainedModel):
        return found
    raise UnsupportedModelError(
        f"The config.json in {folder} names {name!r} as its model, which transformers "
        f"{transformers.__version__} does not have.",
        remedy="Code that comes with a checkpoint is never run.",
    )


def read_config(path: Path) -> PreTrainedConfig:
    """A model's configuration.

    Args:
        path: The model's folder, or its GGUF file.

    Raises:
        UnsupportedModelError: It has none that can be read.
    """
    with _as_unsupported("The model's configuration cannot be read"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(**_locally(path))
    return config


def label_names(path: Path) -> tuple[str, ...]:
    """What a model's configuration calls its classes, in order; LABEL_0 and so on without names.

    Args:
        path: The model's folder, or its GGUF file.

    Raises:
        UnsupportedModelError: It has no configuration that can be read.
    """
    with _as_unsupported("The model's configuration cannot be read"):
        config = AutoConfig.from_pretrained(**_locally(path))
        names: dict[int, str] = config.id2label or {}
    return tuple(names[number] for number in sorted(names))


def load_pretrained(
    auto_class: AutoClass,
    path: Path,
    *,
    seed: int,
    may_be_new: Callable[[PreTrainedModel], Collection[str]] | None = None,
    **options: Any,
) -> PreTrainedModel:
    """A pretrained model in float32, on this process's device.

    Args:
        auto_class: Of transformers, for the task at hand.
        path: A folder with config.json and safetensors, or a GGUF file.
        seed: Of what starts at random.
        may_be_new: A function from the model to the names of the tensors that may be missing.
        options: More of `from_pretrained`'s.

    Raises:
        UnsupportedModelError: It cannot be loaded, or lacks weights that must not be missing.
    """
    torch.manual_seed(seed)
    model, new = _load(auto_class, path, **options)
    allowed: Collection[str] = may_be_new(model) if may_be_new else ()
    if lacking := new - set(allowed):
        raise UnsupportedModelError(
            f"The model lacks weights for {len(lacking)} tensors, such as {min(lacking)}.",
            field="model",
            remedy="Use a complete pretrained model that fits its config.json.",
        )
    if path.is_file():
        _forget_quantization(model)
    return to_device(model)


def model_types(path: Path) -> tuple[str, ...]:
    """What a pretrained model's configuration calls its architecture, and that of its text part.

    Args:
        path: A folder, or a GGUF file.

    Raises:
        UnsupportedModelError: It cannot be read.
    """
    with _as_unsupported("The model's configuration cannot be read"):
        config = AutoConfig.from_pretrained(**_locally(path))
        return config.model_type, config.get_text_config().model_type


def load_tensors(kind: type[PreTrainedModel], path: Path) -> dict[str, Tensor]:
    """What a pretrained model gives to a model of some class, as compressing it starts from it.

    Args:
        kind: Of transformers.
        path: A folder with config.json and safetensors, or a GGUF file.

    Returns:
        By their keys in the state dict of that class, floating-point ones in float32, on the CPU;
        without those that would start at random.

    Raises:
        UnsupportedModelError: It cannot be loaded.
    """
    verbosity = transformers.utils.logging.get_verbosity()
    # It would warn that the head is random, which nobody takes.
    transformers.utils.logging.set_verbosity_error()
    try:
        model, new = _load(kind, path)
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in new}


def _load(
    auto_class: Any,  # noqa: ANN401
    path: Path,
    **options: object,
) -> tuple[PreTrainedModel, set[str]]:
    """A model, and the names of its tensors that its weights lack or have in another shape."""
    with _as_unsupported("The model cannot be loaded for this task"):
        loaded: Any = auto_class.from_pretrained(
            **_locally(path),
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    model: PreTrainedModel
    model, info = loaded
    return model, set(info["missing_keys"]) | {entry[0] for entry in info["mismatched_keys"]}


def _forget_quantization(model: PreTrainedModel) -> None:
    """What came out of a GGUF file is plain by now, and still says that it cannot be saved."""
    for owner, name in (
        (model, "hf_quantizer"),
        (model, "is_quantized"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ):
        owner.__dict__.pop(name, None)


def _locally(path: Path) -> dict[str, Any]:
    offline = {"local_files_only": True, "trust_remote_code": False}
    if path.is_file():
        return {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name, **offline}
    return {"pretrained_model_name_or_path": path, **offline}


@contextmanager
def _as_unsupported(what: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # What a malformed folder makes transformers raise shares no other base.
        raise UnsupportedModelError(
            f"{what}: {error}",
            field="model",
            remedy="Use a transformer such as BERT, RoBERTa, GPT-2 or Llama, with *.safetensors.",
        ) from error
