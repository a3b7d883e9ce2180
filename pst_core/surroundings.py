"""What the last bits of a run depend on beside its spec: its sources, and where it runs."""

import hashlib
import json
import os
import platform
import resource
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from pst_core.fields import Strict
from pst_core.forecast import DeviceClass
from pst_core.formats.manifest import list_files, sha256_of
from pst_core.spec import CompressionSpec

_PACKAGES = (
    "accelerate",
    "numpy",
    "peft",
    "pst-service",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


class Identity(Strict):
    """Which run it is, as hashes: a snapshot of another is of no use to it."""

    spec: str
    data: str
    model: str

    def differs(self, other: "Identity") -> list[str]:
        """The names of what is not the same."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [name for name in mine if mine[name] != theirs[name]]


def identity(spec: CompressionSpec, data_sha256: str, model: Path) -> Identity:
    """Identify a run.

    Args:
        spec: What was asked.
        data_sha256: Of the rows of its splits.
        model: A folder, every file of which counts, or a GGUF file.
    """
    # By their values: a preset may be another in a later release.
    values = spec.resolved_hyperparameters().model_dump(mode="json")
    # What changes nothing is left out: the snapshots of a release that knew none are good still.
    if not values["splices"]:
        del values["splices"], values["splice_sets"]
    else:
        # Once they made batches larger: other steps, of which none can be gone on from.
        values["splices_make"] = "steps"
    return Identity(
        spec=_sha256(spec.model_dump(mode="json") | {"hyperparameters": values}),
        data=data_sha256,
        model=sha256_of(model)
        if model.is_file()
        else _sha256({name: entry.sha256 for name, entry in list_files(model).items()}),
    )


def environment(device: torch.device) -> dict[str, str]:
    """All that decides how sums are rounded: versions, threads, the processor, the device."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "threads": str(torch.get_num_threads()),
        "processor": _processor(),
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
    }


def device_class(device: torch.device) -> DeviceClass:
    """What a run's time depends on beside its spec, and how much memory it may use."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        memory_bytes = torch.cuda.get_device_properties(device).total_memory
    else:
        allowed, _ = resource.getrlimit(resource.RLIMIT_DATA)
        memory_bytes = host_memory()
        if allowed != resource.RLIM_INFINITY:
            memory_bytes = min(memory_bytes, allowed)
    return DeviceClass(
        kind="gpu" if on_gpu else "cpu",
        name=(torch.cuda.get_device_name(device) if on_gpu else _processor())[:200],
        threads=torch.get_num_threads(),
        memory_bytes=memory_bytes,
    )


def host_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Sentences on what is not as it was."""
    return [
        f"{name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _sha256(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _processor() -> str:
    """Its type and the instructions that torch uses of it."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    # Not every architecture has a line of that name.
    name = names[0] if names else platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
