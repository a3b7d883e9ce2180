"""Whether the kernel killed something here for want of memory, as far as it says."""

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """How many processes of this control group were; 0 where there are no groups (v2)."""
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="ascii").strip().rpartition("::")[2]
        events = (CGROUPS / group.lstrip("/") / "memory.events").read_text(encoding="ascii")
    except OSError:
        return 0
    counts = dict(line.split() for line in events.splitlines())
    return int(counts.get("oom_kill", 0))
