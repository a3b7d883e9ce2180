"""Finished compressions of tiny models, to be verified or spoiled."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pst_core.compress import compress
from pst_core.events import Event
from pst_core.formats.manifest import (
    Manifest,
    list_files,
    read_manifest,
    read_sealed,
    write_manifest,
)
from pst_core.formats.mask_coding import Mask
from pst_core.formats.packed import read_masks, write_packed
from pst_core.prepare import Sources
from pst_core.report import Report
from pst_core.spec import CompressionSpec
from pst_core.stages import Job
from pst_core.verify import verify_export
from tests.pst_core import tiny

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Export:
    """A finished compression: what was asked, what came out, what was told."""

    out: Path
    spec: CompressionSpec
    sources: Sources
    report: Report
    events: list[Event]

    def verify(self) -> None:
        verify_export(self.out, self.spec, self.sources)

    def copy(self, out: Path) -> "Export":
        return replace(self, out=Path(shutil.copytree(self.out, out)))


def run(
    folder: Path,
    out: Path,
    *,
    sources: Sources | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    changes: Mapping[str, object] | None = None,
) -> Export:
    """Compress the model in a folder; `changes` are those of the spec."""
    sources = sources or tiny.sources(folder)
    spec = tiny.spec(folder, **(changes or {}))
    events: list[Event] = []
    job = Job(spec=spec, sources=sources, emit=events.append, should_stop=should_stop)
    report = compress(job, out)
    return Export(out=out, spec=spec, sources=sources, report=report, events=events)


def sha256s(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def masks_of(export: Export) -> dict[str, Mask]:
    return {name: mask.copy() for name, mask in read_masks(export.out / "packed")}


def sign(folder: Path) -> None:
    """Make the manifest name the files that now lie there, as a careful forger would."""
    update = {"files": list_files(folder)}
    write_manifest(folder, read_manifest(folder).model_copy(update=update))


def repack(export: Export, dense: Path, masks: dict[str, Mask]) -> None:
    """Put another packed folder in the place of the export's, under its own true hashes."""
    packed = export.out / "packed"
    manifest = read_manifest(packed)
    shutil.rmtree(packed)
    write_packed(dense, masks, packed)
    write_manifest(packed, manifest)
    sign(packed)


def edit_manifest(folder: Path, edit: Callable[[dict[str, object]], None]) -> None:
    document = read_sealed(folder / "pst.json")
    edit(document["outcome"])
    write_manifest(folder, Manifest.model_validate(document))
