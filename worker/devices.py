"""One device, one trainer: a file lock that the trainer inherits from its supervisor."""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Device:
    """A device this process holds, with the descriptor of its lock."""

    name: str
    lock: int

    def environment(self) -> dict[str, str]:
        """What makes a trainer see this device and no other."""
        kind, _, index = self.name.partition(":")
        return {"CUDA_VISIBLE_DEVICES": index if kind == "cuda" else ""}


def take_free(devices: Sequence[str], folder: Path) -> Device | None:
    """The first of the devices that nobody uses, locked until every holder of it has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in devices:
        path = folder / f"{name.replace(':', '-')}.lock"
        # Only the trainer is to inherit it, by name; it stays locked until the last holder ends.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return Device(name, lock)
    return None
