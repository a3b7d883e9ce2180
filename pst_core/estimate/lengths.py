"""How much data a spec has, and how long its texts are in tokens: by reading it, up to a size.

What a row is stays data.py's, what becomes of it the task's.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pst_core.batches import Examples, epoch_rows
from pst_core.data import SplitData, load_splits
from pst_core.forecast import DataForecast
from pst_core.prepare import Sources
from pst_core.pretrained import load_tokenizer
from pst_core.readers import SPLITS
from pst_core.spec import CompressionSpec
from pst_core.tasks import Task, make_task

# More is not read for an estimate; its size is then not known.
MAX_BYTES = 256 * 1024 * 1024
SAMPLE_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """The data's forecast, and what had to be assumed for it."""

    data: DataForecast
    assumed: tuple[str, ...] = ()


def look(spec: CompressionSpec, sources: Sources, *, max_bytes: int = MAX_BYTES) -> Found:
    """Read the data, tokenize a sample of it, and make an epoch of that.

    Raises:
        InvalidDatasetError: With the field or the row at fault.
        UnsupportedModelError: The tokenizer cannot be loaded, or does not fit.
    """
    task = make_task(spec)
    if _bytes(sources.dataset.path) > max_bytes:
        return unread(spec, "The dataset is too large to be read for an estimate")
    data = load_splits(
        spec.dataset, sources.dataset, columns=spec.columns(), target=task.target, seed=spec.seed
    )
    rows = {split: data.count(split) for split in SPLITS}
    examples = _sample(task, data, sources.model)
    every = _every(rows["train"])
    hyper = task.hyper
    return Found(
        DataForecast(
            rows=rows,
            examples=_count(len(examples), rows["train"], blocks=spec.task == "causal-lm"),
            labels=max(1, len(data.labels)),
            longest=int(examples.lengths.max()),
            tokens_per_step=_padded(examples.lengths, hyper.batch_size, spec.seed),
            sampled=every > 1,
        )
    )


def unread(spec: CompressionSpec, why: str) -> Found:
    """What is taken for granted of data that was not read."""
    hyper = spec.resolved_hyperparameters()
    data = DataForecast(
        rows=None,
        examples=None,
        labels=1 if spec.task == "text-regression" else 2,
        longest=hyper.max_length,
        tokens_per_step=hyper.max_length * hyper.batch_size,
        sampled=False,
    )
    taken = f"{why}: every text is taken to have {hyper.max_length} tokens"
    if spec.task == "text-classification":
        taken += ", and two classes are assumed"
    return Found(data, (taken + ".",))


def _bytes(path: Path) -> int:
    files = (path,) if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _every(rows: int) -> int:
    """Of how many rows one is tokenized."""
    return max(1, rows // SAMPLE_ROWS)


def _sample(task: Task, data: SplitData, model: Path) -> Examples:
    tokenizer = load_tokenizer(model, max_length=task.hyper.max_length)
    # Evenly spaced: files are often sorted by label.
    rows = islice(data.rows("train"), 0, None, _every(data.count("train")))
    return Examples.collect(task.encode(rows, data.labels, tokenizer))


def _count(sampled: int, rows: int, *, blocks: bool) -> int:
    """Examples of the whole split; blocks are as many more as there are rows."""
    return sampled * _every(rows) if blocks else rows


def _padded(lengths: NDArray[np.int64], batch_size: int, seed: int) -> float:
    """Tokens of a batch with its padding, on average over an epoch."""
    batches = epoch_rows(lengths, batch_size, (seed, 0))
    return float(np.mean([lengths[rows].max() * len(rows) for rows in batches]))
