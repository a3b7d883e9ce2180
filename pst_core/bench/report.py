"""What was measured, as JSON that holds every number and as a table that holds the medians."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.table import Table

from pst_core.bench.memory import Peak, median_above
from pst_core.bench.padding import BATCH_SIZE, Batching, Epoch
from pst_core.bench.shapes import CLOCKS, Contender, Workload
from pst_core.bench.step import Timing

Timings = Mapping[Contender, Timing]
Peaks = Mapping[Contender, Sequence[Peak]]
Epochs = Mapping[Batching, Epoch]

# Instructions without which matrix products run several times slower.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_MIB = 2**20


def machine(device: str) -> dict[str, object]:
    """What it ran on, as far as that matters to others who read it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = cpu.get("flags", "").split()
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "cpu": cpu.get("model name", platform.machine()),
        "flags": {flag: flag in flags for flag in _FLAGS},
        "torch": torch.__version__,
        "threads": 1,
    }


def steps(workload: Workload, timings: Timings) -> dict[str, object]:
    dense = timings["dense"]
    methods = {
        name: {
            **asdict(timing),
            "median_wall_seconds": timing.median("wall"),
            "median_cpu_seconds": timing.median("cpu"),
            "wall_ratio": timing.ratio_to(dense, "wall"),
            "cpu_ratio": timing.ratio_to(dense, "cpu"),
        }
        for name, timing in timings.items()
    }
    return asdict(workload) | {"length": workload.length, "methods": methods}


def memory(workload: Workload, peaks: Peaks) -> dict[str, object]:
    dense = median_above(peaks["dense"])
    methods = {
        name: {
            "peaks": [asdict(peak) for peak in each],
            "median_above_bytes": median_above(each),
            "ratio": median_above(each) / dense,
        }
        for name, each in peaks.items()
    }
    return asdict(workload) | {"length": workload.length, "methods": methods}


def padding(workload: Workload, epochs: Epochs) -> dict[str, object]:
    dynamic = epochs["dynamic"]
    batchings = {
        name: {
            "batches": len(epoch.sizes),
            "tokens": epoch.tokens,
            "tokens_ratio": epoch.tokens / dynamic.tokens,
            "sampled_tokens": epoch.sampled,
            **asdict(epoch.timing),
            "wall_ratio": epoch.seconds("wall") / dynamic.seconds("wall"),
            "cpu_ratio": epoch.seconds("cpu") / dynamic.seconds("cpu"),
        }
        for name, epoch in epochs.items()
    }
    document = asdict(workload) | {"batch_size": BATCH_SIZE, "batchings": batchings}
    # Of the warm-up's batches: those of an epoch have as many as they have.
    del document["tokens"]
    return document


def step_table(workload: Workload, timings: Timings) -> Table:
    on_gpu = any(timing.peak_bytes for timing in timings.values())
    table = _table(workload, "wall s", "ratio", "cpu s", "ratio", *["peak MiB"] * on_gpu)
    for name, timing in timings.items():
        cells = [str(name)]
        for clock in CLOCKS:
            ratio = timing.ratio_to(timings["dense"], clock)
            cells += [f"{timing.median(clock):.3f}", f"{ratio:.2f}"]
        if timing.peak_bytes:
            cells.append(f"{timing.peak_bytes / _MIB:.0f}")
        table.add_row(*cells)
    return table


def memory_table(workload: Workload, peaks: Peaks) -> Table:
    table = _table(workload, "peak MiB", "above the model", "ratio")
    for name, each in peaks.items():
        above = median_above(each)
        peak = max(one.peak_bytes for one in each)
        ratio = above / median_above(peaks["dense"])
        table.add_row(name, f"{peak / _MIB:.0f}", f"{above / _MIB:.0f}", f"{ratio:.2f}")
    return table


def padding_table(workload: Workload, epochs: Epochs) -> Table:
    dynamic = epochs["dynamic"]
    title = f"{workload.model}, an epoch of {len(dynamic.sizes):,} PST steps"
    table = _titled(title, "batches", "tokens", "ratio", "wall s", "ratio", "cpu s", "ratio")
    for name, epoch in epochs.items():
        cells = [str(name), f"{epoch.tokens:,}", f"{epoch.tokens / dynamic.tokens:.2f}"]
        for clock in CLOCKS:
            seconds = epoch.seconds(clock)
            cells += [f"{seconds:.0f}", f"{seconds / dynamic.seconds(clock):.2f}"]
        table.add_row(*cells)
    return table


def _table(workload: Workload, *columns: str) -> Table:
    batch = f"{workload.tokens // workload.length} × {workload.length} tokens"
    return _titled(f"{workload.model}, {batch}", "method", *columns)


def _titled(title: str, first: str, *columns: str) -> Table:
    table = Table(first, title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table
