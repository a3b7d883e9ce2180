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

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        return device_kind(self.name)

    def memory_bytes(self) -> int | None:
        """How much memory it has; None where that cannot be found out."""
        if self.kind == "cpu":
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        try:
            told = subprocess.run(
                [*query, f"--id={self.name.partition(':')[2]}"],
                check=True,
                capture_output=True,
                timeout=20,
            )
            return int(told.stdout) * 2**20
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            logger.warning("%s: how much memory it has is not known: %s", self.name, error)
            return None

    def environment(self) -> dict[str, str]:
        """What makes a trainer see this device and no other."""
        kind, _, index = self.name.partition(":")
        return {"CUDA_VISIBLE_DEVICES": index if kind == "cuda" else ""}


def device_kind(name: str) -> Literal["cpu", "gpu"]:
    return "gpu" if name.startswith("cuda") else "cpu"


def take_free(devices: Sequence[str], folder: Path) -> Device | None:
    """The first of the devices that nobody uses, locked until every holder of it has ended."""
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
            return Device(name, lock)
    return None
