"""Hugging Face folders: which files the weights are in, and a new folder that appears whole."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pst_core.errors import CheckpointCorruptError
from pst_core.formats.tensor_file import Entry, TensorReader, TensorWriter, opened

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
# Not copied: weights in any form, and the manifest, whose hashes would be another folder's.
_WEIGHTS = ("*.safetensors", INDEX, "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack")
_LEFT_OUT = (*_WEIGHTS, "*.onnx", "*.onnx.data", "pst.json")

Convert = Callable[[TensorReader, Entry, TensorWriter], None]
"""Reads one tensor and writes what it becomes."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises CheckpointCorruptError, with the path, where that is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointCorruptError(f"{path} holds no JSON object.")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def weight_files(folder: Path) -> list[Path]:
    """List the folder's weight files as transformers would: the single one, else the shards."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    weight_map = read_json(folder / INDEX).get("weight_map")
    names = {str(name) for name in weight_map.values()} if isinstance(weight_map, dict) else set()
    if not names or any(name != Path(name).name for name in names):
        raise CheckpointCorruptError(f"{folder / INDEX} names no files of its own folder.")
    return [folder / name for name in sorted(names)]


def weight_bytes(folder: Path) -> int:
    patterns = ("*.safetensors", "*.onnx", "*.onnx.data")
    return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))


def rewrite(source: Path, target: Path, config: dict[str, Any], convert: Convert) -> None:
    """Copy a folder with another config.json and each tensor converted, shard by shard."""
    copy_others(source, target)
    total_size = 0
    for path in weight_files(source):
        with opened(path) as reader, TensorWriter(target / path.name, reader.metadata) as writer:
            for entry in reader.entries:
                convert(reader, entry, writer)
        total_size += writer.data_bytes
    if (source / INDEX).is_file():
        index = read_json(source / INDEX)
        index["metadata"] = {**(index.get("metadata") or {}), "total_size": total_size}
        write_json(target / INDEX, index)
    write_json(target / CONFIG, config)


def copy_others(source: Path, target: Path) -> None:
    """Copy all files of a folder but its weights and its manifest."""
    ignore = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(
        source, target, ignore=ignore, copy_function=shutil.copyfile, dirs_exist_ok=True
    )


@contextmanager
def staged(out_dir: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `out_dir` at the end, or vanishes on an error.

    Raises:
        FileExistsError: `out_dir` holds something.
    """
    if out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(f"{out_dir} is not empty.")
    stage = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    stage.mkdir(parents=True)
    try:
        yield stage
        stage.replace(out_dir)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
