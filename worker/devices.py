"""One device, one trainer: a file lock that the trainer inherits from its supervisor."""

import fcntl
import logging
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Device:
    """A device this process holds, with the descriptor of its lock."""

    name: str
    lock: int
    memory_bytes: int | None
    """How much memory a trainer may use of it; None where that cannot be found out."""

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        return device_kind(self.name)

    def limits(self) -> dict[str, int]:
        """What its trainer may use of this host at most, see `launch.command`.

        A GPU's driver maps more than it uses, so the host's memory is bounded on the CPU alone.
        """
        memory = {"DATA": self.memory_bytes} if self.kind == "cpu" and self.memory_bytes else {}
        return {"CORE": 0, **memory}

    def environment(self) -> dict[str, str]:
        """What makes a trainer see this device and no other."""
        kind, _, index = self.name.partition(":")
        return {"CUDA_VISIBLE_DEVICES": index if kind == "cuda" else ""}


def device_kind(name: str) -> Literal["cpu", "gpu"]:
    return "gpu" if name.startswith("cuda") else "cpu"


def take_free(
    devices: Sequence[str], folder: Path, *, cpu_memory_bytes: int | None = None
) -> Device | None:
    """The first of the devices that nobody uses, locked until every holder of it has ended.

    Args:
        devices: Their names: ``cpu``, ``cuda:0``, …
        folder: Where the locks are.
        cpu_memory_bytes: What a trainer on the CPU may use. None: all that the host has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in devices:
        # The folder may be shared by hosts, a device is not.
        path = folder / f"{socket.gethostname()}-{name.replace(':', '-')}.lock"
        # Only the trainer is to inherit it, by name; it stays locked until the last holder ends.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return Device(name, lock, _memory_bytes(name, cpu_memory_bytes))
    return None


def _memory_bytes(name: str, cpu_memory_bytes: int | None) -> int | None:
    if device_kind(name) == "cpu":
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min(host, cpu_memory_bytes or host)
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(
            [*query, f"--id={name.partition(':')[2]}"], check=True, capture_output=True, timeout=20
        )
        return int(told.stdout) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        logger.warning("%s: how much memory it has is not known: %s", name, error)
        return None
