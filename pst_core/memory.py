"""How much memory is in use, and the most that was since it was last asked to forget.

On a GPU that is what torch has allocated; on the CPU the process's resident set, whose high-water
mark Linux sets back on demand. `getrusage` has no such demand: its mark stays where the highest of
all stages, or even the parent process, has left it.
"""

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

import torch


def memory_now(device: torch.device) -> int:
    """Bytes in use."""
    return torch.cuda.memory_allocated(device) if _is_gpu(device) else _resident("VmRSS")


def peak_memory(device: torch.device) -> int:
    """The most bytes in use since the peak was last forgotten."""
    return torch.cuda.max_memory_allocated(device) if _is_gpu(device) else _resident("VmHWM")


def forget_peak(device: torch.device) -> None:
    """Let the peak be what is in use now, without what has been freed."""
    gc.collect()
    if _is_gpu(device):
        torch.cuda.reset_peak_memory_stats(device)
        return
    # Only glibc keeps what is freed, and only it has this function.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    # A hardened system may refuse; the peak then stays that of the process so far.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")
