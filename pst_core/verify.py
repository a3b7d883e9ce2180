"""Opens exported checkpoints again, in a process that did not write them, and attests.

Nothing here trusts the trainer's memory: files, masks, zeros and accuracy are read from the disk.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from pst_core.compress import Prepared, Sources, prepare
from pst_core.errors import CheckpointCorruptError, SparsityMissedError
from pst_core.evaluate import accuracy
from pst_core.formats.manifest import (
    Attestation,
    Manifest,
    list_files,
    read_manifest,
    write_manifest,
)
from pst_core.formats.packed import read_masks, unpack
from pst_core.loading import load, verify_files
from pst_core.masks import prune_count
from pst_core.pretrained import to_device
from pst_core.report import Accuracy, Outcome
from pst_core.spec import CompressionSpec


def verify_export(out_dir: Path, spec: CompressionSpec, sources: Sources) -> None:
    """Check every checkpoint folder of an export and write the attestation into its ``pst.json``.

    Args:
        out_dir: What ``compress`` wrote.
        spec: What was asked for.
        sources: Of the data to evaluate on again.

    Raises:
        SparsityMissedError: A matrix has not exactly ``int(s·n)`` zeros in its mask, or fewer in
            the file.
        CheckpointCorruptError: Anything else is not what the manifest says.
    """
    prepared = prepare(spec, sources)
    for name in ("dense",) if spec.method == "dense" else ("dense", "packed"):
        folder = out_dir / name
        manifest = _check_manifest(folder, spec)
        packed = manifest.format == "packed"
        if packed:
            _check_masks(folder, manifest.outcome)
        with tempfile.TemporaryDirectory(dir=out_dir) as scratch:
            dense = Path(scratch) / "dense"
            if packed:
                unpack(folder, dense)
                _check_equal(dense, out_dir / "dense")
            zeros = _count_zeros(dense if packed else folder, manifest.outcome)
        attestation = Attestation(
            zeros=zeros, equals_dense=True, test=_evaluate(folder, manifest.outcome, prepared)
        )
        write_manifest(folder, manifest.model_copy(update={"attestation": attestation}))


def _check_manifest(folder: Path, spec: CompressionSpec) -> Manifest:
    verify_files(folder)
    manifest = read_manifest(folder)
    if manifest.outcome.spec != spec or manifest.format != folder.name:
        raise CheckpointCorruptError(f"{folder} was made from another spec or is another format.")
    if strangers := list_files(folder).keys() - manifest.files.keys():
        raise CheckpointCorruptError(
            f"{folder} has files that its pst.json does not list: {min(strangers)}."
        )
    return manifest


def _check_masks(folder: Path, outcome: Outcome) -> None:
    pruned = {name: mask.size - int(mask.sum()) for name, mask in read_masks(folder)}
    if pruned.keys() != {matrix.name for matrix in outcome.matrices}:
        raise CheckpointCorruptError(f"{folder} packs other tensors than its pst.json names.")
    for matrix in outcome.matrices:
        asked = prune_count(outcome.spec.sparsity or 0.0, math.prod(matrix.shape))
        if not pruned[matrix.name] == matrix.pruned == asked:
            raise SparsityMissedError(
                f"{matrix.name} has {pruned[matrix.name]} pruned entries; {asked} were asked for."
            )


def _count_zeros(dense: Path, outcome: Outcome) -> int:
    pruned = {matrix.name: matrix.pruned for matrix in outcome.matrices}
    zeros = {
        name: tensor.numel() - int(tensor.count_nonzero())
        for name, tensor in _tensors(dense)
        if name in pruned
    }
    for name, count in pruned.items():
        if zeros.get(name, 0) < count:
            raise SparsityMissedError(f"{name} has {zeros.get(name, 0)} zeros, not {count}.")
    return sum(zeros.values())


def _check_equal(folder: Path, other: Path) -> None:
    mine, others = _tensor_hashes(folder), _tensor_hashes(other)
    for name in sorted(mine.keys() | others.keys()):
        if mine.get(name) != others.get(name):
            raise CheckpointCorruptError(f"{name} unpacks to other bits than the dense export's.")


def _tensor_hashes(folder: Path) -> dict[str, tuple[str, tuple[int, ...], str]]:
    return {
        name: (
            str(tensor.dtype),
            tuple(tensor.shape),
            hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).hexdigest(),
        )
        for name, tensor in _tensors(folder)
    }


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 -- no mapping, it only looks like one
                yield name, file.get_tensor(name)


def _evaluate(folder: Path, outcome: Outcome, prepared: Prepared) -> Accuracy:
    model, _ = load(folder)
    found = accuracy(to_device(model), prepared.test, pad_token=prepared.pad_token)
    if found != outcome.evaluation.test:
        raise CheckpointCorruptError(
            f"{folder} scores {found.correct} of {found.total} on the test split, and its trainer "
            f"reported {outcome.evaluation.test.correct}."
        )
    return found
