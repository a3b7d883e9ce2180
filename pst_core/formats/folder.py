"""A checkpoint folder as files: made whole or not at all, with what another one has beside weights.

What the weights look like is each format's own business.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Weights in any form, and the manifest, whose hashes would be another folder's.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.pth", "*.h5")
_LEFT_OUT = (*_WEIGHTS, "*.msgpack", "*.onnx", "*.onnx.data", "pst.json")


@contextmanager
def staged(out_dir: Path) -> Iterator[Path]:
    """Give the path of a folder that becomes `out_dir` at the end, or vanishes on an error.

    Raises:
        FileExistsError: `out_dir` holds something.
    """
    if out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(f"{out_dir} is not empty.")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    stage = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    try:
        yield stage
        stage.replace(out_dir)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def copy_others(source: Path, target: Path) -> None:
    """Make a folder with all files of another but its weights and its manifest."""
    ignore = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(source, target, ignore=ignore, copy_function=shutil.copyfile)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
