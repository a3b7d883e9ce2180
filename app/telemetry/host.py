"""Tells how much of this host's GPUs and disk is used; where there are none, nothing."""

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pynvml
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

logger = logging.getLogger(__name__)


class DiskCollector:
    """Of the file system that a folder is on.

    Args:
        folder: Where jobs and checkpoints lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        with suppress(OSError):
            usage = shutil.disk_usage(self._folder)
            yield GaugeMetricFamily("pst_data_free_bytes", "Left for PST_DATA.", usage.free)
            yield GaugeMetricFamily("pst_data_size_bytes", "Of its file system.", usage.total)


class GpuCollector:
    """All NVIDIA GPUs of this host, by the driver's own library."""

    def __init__(self) -> None:
        self._there = False
        with suppress(pynvml.NVMLError):  # no driver, no GPU
            pynvml.nvmlInit()
            self._there = True

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        if not self._there:
            return
        used = GaugeMetricFamily("pst_gpu_memory_used_bytes", "Of a GPU.", labels=["gpu"])
        total = GaugeMetricFamily("pst_gpu_memory_total_bytes", "Of a GPU.", labels=["gpu"])
        busy = GaugeMetricFamily(
            "pst_gpu_utilization_ratio", "Share of time in which it computed.", labels=["gpu"]
        )
        try:
            for index in range(pynvml.nvmlDeviceGetCount()):
                device, label = pynvml.nvmlDeviceGetHandleByIndex(index), [str(index)]
                memory = pynvml.nvmlDeviceGetMemoryInfo(device)
                used.add_metric(label, memory.used)
                total.add_metric(label, memory.total)
                rates = pynvml.nvmlDeviceGetUtilizationRates(device)
                busy.add_metric(label, rates.gpu / 100)
        except pynvml.NVMLError as error:
            # One that is lost or cut into slices tells some of it; the rest is absent.
            logger.debug("a GPU does not tell: %s", error)
        yield from (family for family in (used, total, busy) if family.samples)
