"""Snapshots of a run on disk: each appears whole, and is checked in full before it is believed.

What one holds is resume.py's business, and when one is made the trainer's.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pst_core.errors import CheckpointCorruptError, ForeignSnapshotError, SnapshotError
from pst_core.formats.manifest import list_files, read_sealed, sha256_of, write_sealed
from pst_core.points import reached

VERSION = 1
KEPT = 2
MANIFEST = "manifest.json"
_STATE = "state.json"
_TENSORS = ".safetensors"
_PARTIAL = ".partial"
_NAME = re.compile(r"step-[0-9]{8,10}")

Tensors = Mapping[str, Mapping[str, Tensor]]
"""By group and name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshots:
    """Where a run keeps its snapshots, and how often it makes one.

    Args:
        folder: The run's own; what it holds of this run is gone on from.
        every_seconds: The least time from one to the next.
    """

    folder: Path
    every_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contents:
    """What one snapshot holds: a JSON object, and tensors on the CPU."""

    state: Mapping[str, Any]
    tensors: Tensors


class SnapshotFolder:
    """The snapshots of one run, each a folder `step-…`; the newest two are kept.

    Opening it removes what an earlier process did not finish.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ours: list[str] = []
        self._strangers: set[str] = set()
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _sync(folder.parent)
        self._sweep()

    def names(self) -> list[str]:
        """All that look like one, whole or not, the newest first."""
        folders = (path.name for path in self._folder.iterdir() if path.is_dir())
        return sorted(filter(_NAME.fullmatch, folders), key=_step, reverse=True)

    def read(self, name: str) -> Contents:
        """A snapshot's content, once every byte of it has been checked.

        Raises:
            SnapshotError: It is torn or altered; names the file.
            ForeignSnapshotError: A newer release made it.
        """
        folder = self._folder / name
        try:
            files = _listed(folder)
            for file, entry in files.items():
                _check(folder / file, entry)
            paths = [folder / file for file in files if file.endswith(_TENSORS)]
            return Contents(
                state=json.loads((folder / _STATE).read_bytes()),
                # Copied: what is loaded is the file itself, which will be removed.
                tensors={
                    path.stem: {name: each.clone() for name, each in load_file(path).items()}
                    for path in paths
                },
            )
        except OSError as error:
            raise SnapshotError(f"It cannot be read: {error.strerror}.") from error

    def accept(self, name: str) -> None:
        """Count a snapshot among this run's."""
        self._ours.append(name)

    def leave_alone(self, name: str) -> None:
        """Never remove a snapshot, as it is somebody else's."""
        self._strangers.add(name)

    def write(self, step: int, contents: Contents) -> str:
        """Write a snapshot, and remove what it makes needless.

        Returns:
            Its name. It is on disk by then, whatever happens next.
        """
        self._sweep()
        name = f"step-{step:08d}"
        stage = self._folder / f".{name}{_PARTIAL}"
        stage.mkdir()
        try:
            reached("snapshot:begun")
            _fill(stage, contents)
            reached("snapshot:staged")
            self._put_in_place(stage, name)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        self._ours = [*(ours for ours in self._ours if ours != name), name]
        self._strangers.discard(name)
        self._prune()
        reached("snapshot:pruned")
        return name

    def _put_in_place(self, stage: Path, name: str) -> None:
        target = self._folder / name
        if target.exists():
            # Only one that was refused has the name of a step that is reached again.
            target.rename(stage.with_name(f".{name}.refused{_PARTIAL}"))
        stage.rename(target)
        reached("snapshot:renamed")
        _sync(self._folder)
        reached("snapshot:durable")

    def _prune(self) -> None:
        self._ours = self._ours[-KEPT:]
        for name in set(self.names()) - {*self._ours, *self._strangers}:
            # Renamed first: half a snapshot must not look like one.
            needless = self._folder / name
            needless.rename(needless.with_name(f".{name}{_PARTIAL}"))
        self._sweep()

    def _sweep(self) -> None:
        """Remove what was never finished, or never wholly removed."""
        for path in self._folder.glob(f".step-*{_PARTIAL}"):
            shutil.rmtree(path)


def _step(name: str) -> int:
    return int(name.removeprefix("step-"))


def _fill(stage: Path, contents: Contents) -> None:
    for path in _write_files(stage, contents):
        _sync(path)
        reached(f"snapshot:{path.stem}")
    files = {name: entry.model_dump() for name, entry in list_files(stage).items()}
    write_sealed(stage / MANIFEST, {"version": VERSION, "files": files})
    _sync(stage / MANIFEST)
    reached("snapshot:manifest")
    _sync(stage)


def _write_files(stage: Path, contents: Contents) -> Iterator[Path]:
    for group, tensors in contents.tensors.items():
        if tensors:
            path = stage / f"{group}{_TENSORS}"
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
            yield path
    path = stage / _STATE
    path.write_text(json.dumps(contents.state, allow_nan=False), encoding="utf-8")
    yield path


def _listed(folder: Path) -> dict[str, Any]:
    """The files that a snapshot has to have, with size and hash."""
    try:
        document = read_sealed(folder / MANIFEST)
    except CheckpointCorruptError as error:
        raise SnapshotError(f"{MANIFEST} is missing or altered.") from error
    if document["version"] != VERSION:
        raise ForeignSnapshotError(
            f"It has version {document['version']} of its layout; this release knows {VERSION}."
        )
    files: dict[str, Any] = document["files"]
    return files


def _check(path: Path, entry: Mapping[str, object]) -> None:
    if not path.is_file():
        raise SnapshotError(f"{path.name} is missing.")
    if path.stat().st_size != entry["size"] or sha256_of(path) != entry["sha256"]:
        raise SnapshotError(f"{path.name} is altered: it is not what {MANIFEST} lists.")


def _sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or which names a folder has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
