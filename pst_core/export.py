"""A finished model in every format that was asked for; verifying is verify.py's.

How each format looks is `formats/`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel

from pst_core.adapters import make_adapter
from pst_core.errors import NotCompactableError, UnsupportedModelError
from pst_core.formats.compact import write_compact
from pst_core.formats.dense import write_dense
from pst_core.formats.onnx import require_packages, write_onnx
from pst_core.formats.packed import write_packed
from pst_core.prepare import Prepared
from pst_core.spec import CompressionSpec, Format
from pst_core.stages import Job, Trained


@dataclass(slots=True)
class Export:
    """What was written.

    Args:
        folders: Of each format.
        refused: Why a format that was asked for could not be made.
    """

    folders: dict[Format, Path] = field(default_factory=dict)
    refused: dict[Format, str] = field(default_factory=dict)


def check_formats(spec: CompressionSpec) -> None:
    """Raise NotInstalledError where a format needs a package that is missing."""
    if "onnx" in spec.formats:
        require_packages()


def export(
    job: Job, prepared: Prepared, model: PreTrainedModel, main: Trained, out_dir: Path
) -> Export:
    """Write a finished model, a folder a format.

    `dense` is always written, and `packed` where something is pruned: verifying compares them.
    What a model turns out not to allow is refused, and the others are still made.
    """
    found = Export(folders={"dense": out_dir / "dense"})
    dense = found.folders["dense"]
    write_dense(model, job.sources.model, prepared.tokenizer, dense)
    masks = {name: mask.numpy() for name, mask in main.masks.items()}
    base, reference = job.sources.model, job.spec.model
    writers: dict[Format, Callable[[Path], object]] = {
        "packed": lambda out: write_packed(dense, masks, out, job.spec.value_dtype),
        "adapter": lambda out: make_adapter(
            dense, base, main.factors, masks, out, reference=reference
        ),
        "compact": lambda out: write_compact(dense, out),
        "onnx": lambda out: write_onnx(dense, out),
    }
    for name, write in writers.items():
        if name not in job.spec.formats and not (name == "packed" and masks):
            continue
        try:
            write(out_dir / name)
        except (NotCompactableError, UnsupportedModelError) as error:
            found.refused[name] = str(error)
        else:
            found.folders[name] = out_dir / name
    return found
