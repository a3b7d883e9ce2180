"""How much memory training takes above the loaded model, by each method in processes of its own.

The peak since the model was loaded, less what was in use then; memory.py says how it is read.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pst_core.bench.shapes import Contender, Workload

STEPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """Bytes: with the model loaded, and at most while it trained."""

    loaded_bytes: int
    peak_bytes: int

    @property
    def above_bytes(self) -> int:
        return self.peak_bytes - self.loaded_bytes


def measure(workload: Workload, contenders: Sequence[Contender]) -> dict[Contender, list[Peak]]:
    """One process for each method and round, the methods in turn."""
    rounds = [
        {name: _in_a_process(workload, name) for name in contenders} for _ in range(workload.rounds)
    ]
    return {name: [peaks[name] for peaks in rounds] for name in contenders}


def median_above(peaks: Sequence[Peak]) -> float:
    return statistics.median(peak.above_bytes for peak in peaks)


def _in_a_process(workload: Workload, contender: Contender) -> Peak:
    words = ["bench", "memory-one", contender, json.dumps(asdict(workload))]
    # A process's peak holds all that it ever loaded: each method needs one of its own.
    command = [sys.executable, "-P", "-m", "pst_core", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return Peak(**json.loads(done.stdout))


def measure_here(workload: Workload, contender: Contender) -> Peak:
    """What a fresh process measures of itself."""
    import torch

    from pst_core.bench.contest import random_batch, random_model, train_by
    from pst_core.memory import forget_peak, memory_now, peak_memory

    torch.set_num_threads(1)
    # What torch, its optimizer and the method load when they first run is not the training's.
    tiny = replace(workload, model="tiny", tokens=workload.length)
    train_by(contender, random_model(tiny)).step(random_batch(tiny))
    device = torch.device(workload.device)
    model = random_model(workload)
    forget_peak(device)
    before = memory_now(device)
    trainee = train_by(contender, model)
    for _ in range(STEPS):
        trainee.step(random_batch(workload))
    return Peak(loaded_bytes=before, peak_bytes=peak_memory(device))
