"""The ONNX format: `model.onnx` beside configuration and tokenizer, for runtimes without PyTorch.

Needs the packages of the extra `onnx`; without them nothing here is called.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from pst_core.batches import Collator
from pst_core.errors import CheckpointCorruptError, NotInstalledError, UnsupportedModelError
from pst_core.formats.folder import copy_others, staged
from pst_core.loading import load

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(dense_dir: Path, out_dir: Path) -> None:
    """Write a dense or compact folder as ONNX, with other files beside it as they are.

    The graph takes `input_ids`, `attention_mask` and, where the tokenizer and the model have them,
    `token_type_ids`, int64 of any batch and length, and gives `logits`, all in float32; a language
    model's are those of every token, without a cache. The same folder gives the same bytes. What
    takes more than 1.5 GB has its weights in `model.onnx.data`.

    Args:
        dense_dir: A Hugging Face folder with a tokenizer.
        out_dir: The folder to make. It may exist if it is empty; it appears whole or not at all.

    Raises:
        NotInstalledError: The packages for it are missing.
        UnsupportedModelError: The model gives no logits, or has what ONNX cannot say.
        FileExistsError: `out_dir` holds something.
    """
    require_packages()
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    model, tokenizer = load(dense_dir)
    # The runtime's kernels for the CPU want float32, which holds both narrower formats exactly.
    model.float().requires_grad_(requires_grad=False)
    model.config.use_cache = False
    types = Collator.of(tokenizer, model.config).token_types
    with staged(out_dir) as stage:
        program = _export(model, token_types=types)
        # Among them stack traces of whoever exported it.
        ClearMetadataAndDocStringPass()(program.model)
        copy_others(dense_dir, stage)
        program.save(stage / FILE)


def require_packages() -> None:
    """Raise NotInstalledError unless ONNX can be written and run."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise NotInstalledError(
            f"The ONNX format needs {', '.join(missing)}, which cannot be imported here.",
            field="formats",
            remedy="Install pst-service[onnx].",
        )


def _export(model: PreTrainedModel, *, token_types: bool) -> torch.onnx.ONNXProgram:
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    example = {name: torch.ones(2, 4, dtype=torch.int64) for name in names}
    if "logits" not in model(**example):
        raise UnsupportedModelError(
            f"{type(model).__name__} gives no logits, and only those are written as ONNX.",
            field="model",
        )
    with _quiet():
        try:
            exported = torch.onnx.export(
                model,
                kwargs=example,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in names},
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise UnsupportedModelError(
                f"{type(model).__name__} cannot be written as ONNX: {error.__cause__ or error}",
                field="formats",
                remedy="Take another format.",
            ) from error
    return cast("torch.onnx.ONNXProgram", exported)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings: of its own code, and of operators that no text needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def open_session(onnx_dir: Path) -> "InferenceSession":
    """The model in ONNX Runtime, on the CPU, with as many threads as torch has.

    Raises:
        NotInstalledError: The packages for it are missing.
        CheckpointCorruptError: The file is missing or malformed.
    """
    require_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = onnx_dir / FILE
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # What it raises has no base of its own.
        raise CheckpointCorruptError(f"{path} cannot be read: {error}") from error


class OnnxModel(PreTrainedModel):
    """An ONNX checkpoint, called as the model that it was made from; it gives logits alone.

    Args:
        config: Of that model.
        session: Its runtime.
    """

    def __init__(self, config: PreTrainedConfig, session: "InferenceSession") -> None:
        super().__init__(config)
        self._session = session

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(self, **inputs: Tensor) -> ModelOutput:
        """The logits of a batch on the CPU: B×C, or B×T×V of a language model."""
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        return ModelOutput(logits=torch.from_numpy(self._session.run(["logits"], feed)[0]))


def is_onnx(folder: Path) -> bool:
    return (folder / FILE).is_file()


def load_onnx(folder: Path) -> OnnxModel:
    """Open what `write_onnx` wrote; errors as `open_session`."""
    session = open_session(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return OnnxModel(config, session)
