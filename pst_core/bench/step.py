"""How long one training step takes, by each method in turn, in one process."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pst_core.bench.contest import Batch, Trainee, random_batch, random_model, train_by
from pst_core.bench.shapes import Clock, Contender, Workload

# Until the masks have settled, their thresholds are searched from scratch; and memory is fresh.
WARM_UP = 5


@dataclass(slots=True)
class Timing:
    """One method's steps, in the order in which they ran.

    Args:
        wall_seconds: On a GPU, between two of its own events.
        cpu_seconds: Of this process; a busy machine disturbs them less.
        peak_bytes: On a GPU, the most memory of a step, model included; elsewhere None.
    """

    wall_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None

    def seconds(self, clock: Clock) -> list[float]:
        return self.wall_seconds if clock == "wall" else self.cpu_seconds

    def median(self, clock: Clock) -> float:
        return statistics.median(self.seconds(clock))

    def ratio_to(self, other: "Timing", clock: Clock) -> float:
        """Median over the rounds: what disturbs a round mostly disturbs both."""
        pairs = zip(self.seconds(clock), other.seconds(clock), strict=True)
        return statistics.median(mine / others for mine, others in pairs)


def measure(workload: Workload, contenders: Sequence[Contender]) -> dict[Contender, Timing]:
    """Time whole steps: gradients to none, forward, backward, clipping, optimizer."""
    torch.set_num_threads(1)
    lanes = {name: Lane(name, workload) for name in contenders}
    for _ in range(workload.rounds):
        batch = random_batch(workload)
        for lane in lanes.values():
            lane.run(batch)
    return {name: lane.timing for name, lane in lanes.items()}


class Lane:
    """One method's model, warmed up, and the timing of what it runs."""

    def __init__(self, contender: Contender, workload: Workload) -> None:
        self.timing = Timing()
        self._on_gpu = torch.device(workload.device).type == "cuda"
        before = self._allocated()
        self._trainee: Trainee = train_by(contender, random_model(workload))
        for _ in range(WARM_UP):
            self._trainee.step(random_batch(workload))
        # Of model, optimizer and gradients; the other lanes' lie beside them.
        self._resident = self._allocated() - before

    def run(self, batch: Batch) -> None:
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        before, cpu = self._allocated(), time.process_time()
        self.timing.wall_seconds.append(self._timed_step(batch))
        self.timing.cpu_seconds.append(time.process_time() - cpu)
        if self._on_gpu:
            peak = torch.cuda.max_memory_allocated() - before + self._resident
            self.timing.peak_bytes = max(peak, self.timing.peak_bytes or 0)

    def _timed_step(self, batch: Batch) -> float:
        if not self._on_gpu:
            start = time.perf_counter()
            self._trainee.step(batch)
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self._trainee.step(batch)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated() if self._on_gpu else 0
