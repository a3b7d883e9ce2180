"""Packed checkpoints: Hugging Face folders whose pruned tensors are blobs under their own names.

Made from a dense folder and back; blob.py packs one tensor, transformers_plugin.py loads a model.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pst_core.errors import CheckpointCorruptError, CheckpointVersionError
from pst_core.formats import blob

if TYPE_CHECKING:
    from torch import Tensor

QUANT_METHOD = "pst-packed"
VERSION = 1

_MIN_DIMENSIONS = 2
INDEX = "model.safetensors.index.json"
# Not copied: weights in any form, and the manifest, whose hashes would be another folder's.
_LEFT_OUT = ("*.safetensors", INDEX, "pst.json", "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack")


def write_packed(dense_dir: Path, masks: Mapping[str, blob.Mask], out_dir: Path) -> None:
    """Write a dense Hugging Face folder in the packed format.

    Weight files keep their names and shards, other files are copied (but `pst.json`).

    Args:
        dense_dir: The folder to read; its pruned entries are +0.0.
        masks: For each pruned tensor, by its name in the file: True where an entry is kept, bool,
            in the shape of the tensor as stored. Tensors without a mask stay as they are.
        out_dir: The folder to make. It may exist if it is empty; it appears whole or not at all.

    Raises:
        ValueError: Masks and folder do not fit: no such tensor, another shape, fewer than two
            dimensions, a pruned entry that is not +0.0, or a folder that is quantized already.
        CheckpointCorruptError: The dense folder cannot be read.
        FileExistsError: `out_dir` holds something.
    """
    config = read_json(dense_dir / "config.json")
    if "quantization_config" in config:
        raise ValueError(f"{dense_dir} is quantized or packed already.")
    config["quantization_config"] = {"quant_method": QUANT_METHOD, "version": VERSION}
    absent = set(masks)

    def convert(name: str, tensor: "Tensor", _: str) -> "Tensor":
        absent.discard(name)
        if name in masks:
            return _pack_tensor(name, tensor, masks[name])
        if is_blob(str(tensor.dtype), tensor.shape):
            raise ValueError(f"Tensor {name} is uint8 in one dimension: it would read as a blob.")
        return tensor

    with _staged(out_dir) as stage:
        _rewrite(dense_dir, stage, config, convert)
        if absent:
            raise ValueError(f"{dense_dir} has no tensors {sorted(absent)}.")


def unpack(packed_dir: Path, out_dir: Path) -> None:
    """Write a packed folder as the dense one it was made from, bit for bit in every tensor.

    Args:
        packed_dir: The folder to read.
        out_dir: As in `write_packed`.

    Raises:
        CheckpointCorruptError: The packed folder cannot be read; names the tensor and the file.
        CheckpointVersionError: A newer release wrote it.
        FileExistsError: `out_dir` holds something.
    """
    config = _read_packed_config(packed_dir)
    del config["quantization_config"]

    def convert(name: str, tensor: "Tensor", file: str) -> "Tensor":
        if is_blob(str(tensor.dtype), tensor.shape):
            return to_tensor(blob.unpack(tensor.numpy(), f"{name} in {file}"))
        return tensor

    with _staged(out_dir) as stage:
        _rewrite(packed_dir, stage, config, convert)


def read_masks(packed_dir: Path) -> Iterator[tuple[str, blob.Mask]]:
    """Read which entries each pruned tensor keeps, without torch.

    Yields:
        Name and mask (bool, in the dense tensor's shape) of one pruned tensor after another.

    Raises:
        CheckpointCorruptError: The folder cannot be read; names the tensor and the file.
        CheckpointVersionError: A newer release wrote it.
    """
    for name, data, label in _read_blobs(packed_dir):
        yield name, blob.unpack_mask(data, label)


def read_tensors(packed_dir: Path) -> Iterator[tuple[str, blob.Values]]:
    """Read each pruned tensor in dense form, without torch; errors as `read_masks`.

    Yields:
        Name and values of one pruned tensor after another; bfloat16 as uint16 bit patterns.
    """
    for name, data, label in _read_blobs(packed_dir):
        yield name, blob.unpack(data, label)


def is_packed(directory: Path) -> bool:
    """Whether a folder's config.json says that it is packed."""
    declared = read_json(directory / "config.json").get("quantization_config")
    return isinstance(declared, dict) and declared.get("quant_method") == QUANT_METHOD


def require_version(version: object) -> None:
    """Raise unless this release reads that version of the packed folder."""
    if not isinstance(version, int) or version < 1:
        raise CheckpointCorruptError(f"The packed folder's config.json says version {version!r}.")
    if version > VERSION:
        raise CheckpointVersionError(
            f"The folder is packed in version {version}, this release reads up to {VERSION}.",
            remedy="Upgrade pst-service.",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises CheckpointCorruptError, with the path, where that is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointCorruptError(f"{path} holds no JSON object.")
    return content


def to_tensor(values: blob.Values) -> "Tensor":
    """Give an unpacked array to torch without a copy; uint16 becomes bfloat16, bit for bit."""
    import torch

    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if values.dtype == np.uint16 else tensor


def _pack_tensor(name: str, tensor: "Tensor", mask: blob.Mask) -> "Tensor":
    import torch

    # A blob could by chance be as long as a vector, and load elsewhere as its weights.
    if tensor.ndim < _MIN_DIMENSIONS or not tensor.is_floating_point():
        raise ValueError(f"Tensor {name} is no float matrix: {tensor.dtype}, {tensor.shape}.")
    values = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    try:
        packed = blob.pack(values, mask)
    except ValueError as error:
        raise ValueError(f"Tensor {name}: {error}") from error
    if values[~mask].view(np.uint8).any():
        raise ValueError(f"Tensor {name} has pruned entries that are not +0.0.")
    return torch.frombuffer(bytearray(packed), dtype=torch.uint8)


def is_blob(dtype: str, shape: Sequence[int]) -> bool:
    return dtype in {"U8", "torch.uint8"} and len(shape) == 1


def _read_blobs(packed_dir: Path) -> Iterator[tuple[str, blob.Blob, str]]:
    """Yield each blob with its tensor's name and a label that names tensor and file."""
    _read_packed_config(packed_dir)
    for path in weight_files(packed_dir):
        with _opened(path, "numpy") as file:
            for name in list(file.keys()):
                view = file.get_slice(name)
                if is_blob(view.get_dtype(), view.get_shape()):
                    yield name, file.get_tensor(name), f"{name} in {path.name}"


def _rewrite(
    source: Path,
    target: Path,
    config: dict[str, Any],
    convert: Callable[[str, "Tensor", str], "Tensor"],
) -> None:
    """Copy a folder with another config.json and each tensor converted, shard by shard."""
    from safetensors.torch import save_file

    ignore = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(source, target, ignore=ignore, copy_function=shutil.copyfile)
    total_size = 0
    for path in weight_files(source):
        with _opened(path, "pt") as file:
            names = list(file.keys())
            tensors = {name: convert(name, file.get_tensor(name), path.name) for name in names}
            save_file(tensors, target / path.name, metadata=file.metadata())
        total_size += sum(tensor.nbytes for tensor in tensors.values())
    if (source / INDEX).is_file():
        index = read_json(source / INDEX)
        index["metadata"] = {**(index.get("metadata") or {}), "total_size": total_size}
        _write_json(target / INDEX, index)
    _write_json(target / "config.json", config)


@contextmanager
def _staged(out_dir: Path) -> Iterator[Path]:
    """Give the path of a folder that becomes `out_dir` at the end, or vanishes on an error."""
    if out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(f"{out_dir} is not empty.")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    stage = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    try:
        yield stage
        stage.replace(out_dir)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, FileNotFoundError) as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error}") from error


def weight_files(directory: Path) -> list[Path]:
    """List the folder's weight files as transformers would: the single one, else the shards."""
    if (directory / "model.safetensors").is_file():
        return [directory / "model.safetensors"]
    weight_map = read_json(directory / INDEX).get("weight_map")
    names = {str(name) for name in weight_map.values()} if isinstance(weight_map, dict) else set()
    if not names or any(name != Path(name).name for name in names):
        raise CheckpointCorruptError(f"{directory / INDEX} names no files of its own folder.")
    return [directory / name for name in sorted(names)]


def _read_packed_config(directory: Path) -> dict[str, Any]:
    config = read_json(directory / "config.json")
    declared = config.get("quantization_config")
    if not isinstance(declared, dict) or declared.get("quant_method") != QUANT_METHOD:
        raise CheckpointCorruptError(f"{directory} is not packed by its config.json.")
    require_version(declared.get("version"))
    return config


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
