"""Measures what a compression is worth on this machine: the time of forward passes, and sizes.

What comes out is benefit_report.py's; what training costs is measured by bench/.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from pst_core.batches import Batch, Collator, Examples
from pst_core.benefit_report import Benefit, Latency, Runtime, Sizes, Variant, judge
from pst_core.csr import with_csr
from pst_core.errors import NotInstalledError, UnsupportedModelError
from pst_core.formats.folder import weight_bytes
from pst_core.formats.limits import limit
from pst_core.formats.onnx import load_onnx, require_packages, write_onnx
from pst_core.loading import load
from pst_core.pretrained import to_device

BATCH_SIZES = (1, 32)
BATCHES = 4  # of other texts, in turn
MAX_ROUNDS = 50
# Of a batch, so that a language model's logits for all of them stay below a gigabyte or two.
MAX_TOKENS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """What a compression wrote; None: that format it did not.

    Args:
        onnx: Of the dense model.
    """

    dense: Path
    packed: Path | None = None
    compact: Path | None = None
    onnx: Path | None = None


@dataclass(frozen=True, slots=True)
class _Lane:
    """A model in a runtime."""

    runtime: Runtime
    variant: Variant
    compute: Callable[[Batch], object]


def measure_benefit(
    folders: Folders,
    pruned: Collection[str],
    examples: Examples,
    *,
    seconds: float = 60,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> Benefit:
    """Time forward passes of the dense, the sparse and the compact model, runtime by runtime.

    All in turn, on the same texts, in float32: PyTorch on this process's device with the threads
    that it has, and ONNX Runtime, where PyTorch is on the CPU, with as many. The dense model
    computes its zeros, so that it takes as long as one that was never pruned.

    Args:
        folders: What to measure. ONNX goes to a temporary folder where there is none yet.
        pruned: The names of the pruned weights, as in the state dict.
        examples: Texts as the task encodes them, one at least; of a batch's, no more than
            MAX_TOKENS are taken.
        seconds: How long to measure, beside what it takes to load and to export. However few,
            each model runs twice with each batch size.
        batch_sizes: How many texts at once.

    Raises:
        CheckpointCorruptError: A folder is not what it should be.
    """
    with tempfile.TemporaryDirectory() as scratch:
        model, collate = _load(folders.dense)
        lanes = list(_torch_lanes(model, folders.compact, pruned))
        unmeasured: dict[Runtime, str] = {}
        try:
            lanes += list(_onnx_lanes(model, folders, Path(scratch)))
        except (NotInstalledError, UnsupportedModelError) as error:
            unmeasured["onnxruntime"] = error.message
        latencies: list[Latency] = []
        tokens = {}
        start = time.perf_counter()
        for share, size in enumerate(batch_sizes, start=1):
            # What one size leaves over is the next one's.
            deadline = start + seconds * share / len(batch_sizes)
            batches = [batch.to(model.device) for batch in _batches(examples, collate, size)]
            times = _time(lanes, batches, deadline)
            latencies += _latencies(lanes, times, size)
            tokens[size] = round(statistics.median(batch.input_ids.numel() for batch in batches))
    return Benefit(
        device=model.device.type,
        threads=torch.get_num_threads(),
        tokens=tokens,
        latencies=tuple(latencies),
        verdicts=judge(latencies, unmeasured),
        sizes=measure_sizes(folders, pruned),
    )


def measure_sizes(folders: Folders, pruned: Collection[str]) -> Sizes:
    """What the weights take, and how little they could."""
    return Sizes(
        dense=weight_bytes(folders.dense),
        packed=weight_bytes(folders.packed) if folders.packed else None,
        compact=weight_bytes(folders.compact) if folders.compact else None,
        limit=limit(folders.dense, pruned),
    )


def _load(folder: Path) -> tuple[PreTrainedModel, Collator]:
    model, tokenizer = load(folder)
    model.config.use_cache = False
    return to_device(model.float().eval()), Collator.of(tokenizer, model.config)


def _torch_lanes(
    model: PreTrainedModel, compact: Path | None, pruned: Collection[str]
) -> Iterator[_Lane]:
    yield _Lane("pytorch", "dense", partial(_forward, model))
    if pruned:
        yield _Lane("pytorch-csr", "sparse", partial(_forward, with_csr(model, pruned)))
    if compact:
        yield _Lane("pytorch", "compact", partial(_forward, _load(compact)[0]))


@torch.no_grad()
def _forward(model: PreTrainedModel, batch: Batch) -> None:
    model(**batch.inputs())
    if batch.input_ids.is_cuda:
        torch.cuda.synchronize()


def _onnx_lanes(model: PreTrainedModel, folders: Folders, scratch: Path) -> Iterator[_Lane]:
    require_packages()
    if model.device.type != "cpu":
        raise UnsupportedModelError("PyTorch has a GPU here, and ONNX Runtime runs on the CPU.")
    dense = folders.onnx
    if dense is None:
        dense = scratch / "dense"
        write_onnx(folders.dense, dense)
    yield _Lane("onnxruntime", "dense", partial(_forward, load_onnx(dense)))
    if folders.compact:
        write_onnx(folders.compact, scratch / "compact")
        compact = load_onnx(scratch / "compact")
        yield _Lane("onnxruntime", "compact", partial(_forward, compact))


def _batches(examples: Examples, collate: Collator, size: int) -> Iterator[Batch]:
    """Batches of texts from all over the examples; few examples come more than once."""
    count = BATCHES * size
    rows = np.linspace(0, len(examples) - 1, min(len(examples), count)).astype(np.int64)
    for own in np.resize(rows, (BATCHES, size)):
        batch = collate(examples, own)
        some = slice(max(MAX_TOKENS // size, 1))
        types = batch.token_type_ids
        yield replace(
            batch,
            input_ids=batch.input_ids[:, some],
            attention_mask=batch.attention_mask[:, some],
            token_type_ids=None if types is None else types[:, some],
        )


def _time(lanes: Sequence[_Lane], batches: Sequence[Batch], deadline: float) -> list[list[float]]:
    """The seconds of each lane's runs, after one to warm up; the lanes in turn, batch by batch."""
    for lane in lanes:
        lane.compute(batches[0])
    times: list[list[float]] = [[] for _ in lanes]
    for batch in islice(cycle(batches), MAX_ROUNDS):
        for lane, own in zip(lanes, times, strict=True):
            start = time.perf_counter()
            lane.compute(batch)
            own.append(time.perf_counter() - start)
        if time.perf_counter() >= deadline:
            break
    return times


def _latencies(
    lanes: Sequence[_Lane], times: Sequence[Sequence[float]], batch_size: int
) -> Iterator[Latency]:
    medians = {
        (lane.runtime, lane.variant): statistics.median(own)
        for lane, own in zip(lanes, times, strict=True)
    }
    reference = medians["pytorch", "dense"]
    for (runtime, variant), median in medians.items():
        yield Latency(
            runtime=runtime,
            variant=variant,
            batch_size=batch_size,
            seconds=median,
            runs=len(times[0]),
            speedup=reference / median,
            speedup_in_runtime=medians.get((runtime, "dense"), reference) / median,
        )
