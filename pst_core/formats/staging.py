"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(out_dir: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``out_dir`` at the end, or vanishes on an error.

    Raises:
        FileExistsError: ``out_dir`` holds something.
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
