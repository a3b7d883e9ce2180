"""What packing saves and costs: bytes beside their entropy, and the time to pack and to load.

A random BERT pruned by magnitude: its values and masks have no structure that would flatter.
"""

import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers
from rich.table import Table
from safetensors import safe_open
from torch import Tensor
from transformers import BertForSequenceClassification

from pst_core.bench.contest import random_model
from pst_core.bench.shapes import LENGTH, Workload
from pst_core.convert import Pruning, convert, materialize
from pst_core.formats import blob, packed
from pst_core.formats.folder import weight_bytes, weight_files
from pst_core.formats.mask_coding import Mask
from pst_core.formats.placing import HAS_C
from pst_core.formats.streams import entropy_bytes
from pst_core.formats.tensor_file import FLOATS, opened
from pst_core.recipes import Hyperparameters
from pst_core.spec import ValueDtype

# The fixed cost of a blob that the limits allow for.
_HEADER = 256
# Below, the table of a Huffman code outweighs what it could save.
_LARGE = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One packed folder beside the dense float32 one.

    Args:
        model: A key of `SHAPES`.
        dtype: Of the packed values.
        sparsity: Of the matrices in the blocks.
        dense_bytes: Weights of the dense float32 folder.
        packed_bytes: Weights of the packed one.
        worst_pruned: The largest ratio of a pruned tensor's bytes, less 256, to its limit: the
            entropy of the kept values' bytes, plane by plane, and that of the mask.
        worst_whole: The same of the others of 64 KiB and more, to their planes' entropy or their
            plain bytes, whichever is smaller.
        pack_rate: Dense bytes packed in a second of processor time.
        read_ratio: Processor time to have all tensors in memory of their own, packed to dense, in
            a fresh process: unpacked the ones, copied by torch out of the mapped file the others.
        load_ratio: The same of `from_pretrained` with a look at every weight: dense ones are
            mapped then, and only read.
        reads_in_c: Whether the C part of the reader was there.
    """

    model: str
    dtype: str
    sparsity: float
    dense_bytes: int
    packed_bytes: int
    worst_pruned: float
    worst_whole: float
    pack_rate: float
    read_ratio: float
    load_ratio: float
    reads_in_c: bool

    @property
    def times_smaller(self) -> float:
        return self.dense_bytes / self.packed_bytes


def measure(model: str, sparsity: float, rounds: int) -> Iterator[Measured]:
    """Pack one random model in each dtype; one thread."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        dense = Path(scratch) / "dense"
        masks = _write_pruned(model, sparsity, dense)
        dtypes: tuple[ValueDtype | None, ...] = (None, "float16", "bfloat16")
        for dtype in dtypes:
            folder = Path(scratch) / f"packed-{dtype}"
            seconds = _timed(partial(packed.write_packed, dense, masks, value_dtype=dtype), folder)
            worst_pruned, worst_whole = _worst(folder)
            yield Measured(
                model=model,
                dtype=dtype or "float32",
                sparsity=sparsity,
                dense_bytes=weight_bytes(dense),
                packed_bytes=weight_bytes(folder),
                worst_pruned=worst_pruned,
                worst_whole=worst_whole,
                pack_rate=weight_bytes(dense) / seconds,
                read_ratio=_ratio(partial(_first, _read), dense, folder, rounds),
                load_ratio=_ratio(partial(_timed, _load), dense, folder, rounds),
                reads_in_c=HAS_C,
            )


def _write_pruned(shape: str, sparsity: float, folder: Path) -> Mapping[str, Mask]:
    workload = Workload(model=shape, tokens=LENGTH, rounds=1, dropout=0.0, device="cpu")
    model = random_model(workload)
    converted = convert(model, Pruning(method="magnitude"), Hyperparameters())
    converted.set_sparsity(sparsity)
    masks, _ = materialize(model, converted)
    model.save_pretrained(folder)
    return {name: mask.numpy() for name, mask in masks.items()}


def _worst(folder: Path) -> tuple[float, float]:
    """Of the pruned tensors and of the large others, the ratio that is furthest from its limit."""
    pruned, whole = [0.0], [0.0]
    for path in weight_files(folder):
        with opened(path) as reader:
            for entry in reader.entries:
                data = reader.read(entry)
                if not packed.is_blob(entry):
                    header, values = None, data.view(FLOATS.get(entry.dtype, np.uint8))
                else:
                    header = blob.read_header(data, entry.name)
                    values = blob.unpack(data, entry.name)
                if header is not None and header.is_masked:
                    kept = values[blob.unpack_mask(data, entry.name)]
                    limit = _entropy(kept) + _mask_entropy(header.kept, header.size)
                    pruned.append((data.size - _HEADER) / limit)
                elif values.nbytes >= _LARGE:
                    whole.append(data.size / min(_entropy(values), values.nbytes))
    return max(pruned), max(whole)


def _entropy(values: blob.Values) -> float:
    """The order-0 entropy of the values' bytes, each plane of them for itself, in bytes."""
    planes = values.reshape(-1).view(np.uint8).reshape(-1, values.itemsize).T
    return sum(entropy_bytes(np.ascontiguousarray(plane)) for plane in planes)


def _mask_entropy(kept: int, size: int) -> float:
    """n·H(density) in bytes: what no code for independent bits can beat."""
    shares = [share for share in (kept / size, 1 - kept / size) if share]
    return -size * sum(share * math.log2(share) for share in shares) / 8


def _ratio(timed: Callable[[Path], float], dense: Path, folder: Path, rounds: int) -> float:
    """Packed to dense, medians of interleaved runs; the first of each warms caches and imports."""
    plain, unpacked = [], []
    for _ in range(rounds + 1):
        plain.append(timed(dense))
        unpacked.append(timed(folder))
    return median(unpacked[1:]) / median(plain[1:])


def _first(action: Callable[[Path], object], folder: Path) -> float:
    """The time in a process that has done nothing before: who loads a model has none to reuse.

    Memory that an earlier one has left makes copying three times as fast.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (1,)) as process:
        return process.submit(_timed, action, folder).result()


def _read(folder: Path) -> list[Tensor]:
    tensors = []
    is_packed = packed.is_packed(folder)
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in list(file.keys()):
                tensor = file.get_tensor(name)
                if is_packed and tensor.dtype == torch.uint8 and tensor.ndim == 1:
                    tensors.append(packed.to_tensor(blob.unpack(tensor.numpy(), name)))
                else:
                    tensors.append(tensor.clone())
    return tensors


def _load(folder: Path) -> float:
    model = BertForSequenceClassification.from_pretrained(folder, dtype="auto")
    return sum(float(parameter.detach().sum()) for parameter in model.parameters())


def _timed(action: Callable[[Path], object], folder: Path) -> float:
    started = time.process_time()
    action(folder)
    return time.process_time() - started


def table(measured: Sequence[Measured]) -> Table:
    """A row for each dtype and sparsity."""
    columns = (
        "values",
        "times smaller",
        "pruned/limit",
        "others/limit",
        "packed GB/s",
        "read",
        "load",
    )
    reader = "C" if measured[0].reads_in_c else "NumPy"
    title = f"{measured[0].model}, beside dense float32; read in {reader}"
    found = Table("sparsity", title=title)
    for column in columns:
        found.add_column(column, justify="right")
    for each in measured:
        found.add_row(
            f"{each.sparsity:.0%}",
            each.dtype,
            f"{each.times_smaller:.2f}",
            f"{each.worst_pruned:.3f}",
            f"{each.worst_whole:.3f}",
            f"{each.pack_rate / 1e9:.2f}",
            f"{each.read_ratio:.2f}",
            f"{each.load_ratio:.2f}",
        )
    return found
