"""Opens exported checkpoints again, in a process that did not write them, and attests.

Nothing here trusts the trainer's memory: files, masks, zeros and accuracy are read from the disk.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from pst_core.errors import CheckpointCorruptError, SparsityMissedError
from pst_core.formats.blob import Mask
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
from pst_core.prepare import Sources, prepare
from pst_core.pretrained import to_device
from pst_core.report import Outcome, PrunedMatrix, Scores
from pst_core.spec import UNPRUNED, CompressionSpec


def verify_export(out_dir: Path, spec: CompressionSpec, sources: Sources) -> None:
    """Check every checkpoint folder of an export and write the attestation into its ``pst.json``.

    Args:
        out_dir: What ``compress`` wrote.
        spec: What was asked for.
        sources: Of the data to evaluate on again.

    Raises:
        SparsityMissedError: A mask has not exactly as many zeros as were asked for, or the file
            has fewer.
        CheckpointCorruptError: Anything else is not what the manifest says.
    """
    for name in ("dense",) if spec.method in UNPRUNED else ("dense", "packed"):
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
            zeros=zeros, equals_dense=True, test=_evaluate(folder, manifest.outcome, sources)
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
    masks = dict(read_masks(folder))
    if masks.keys() != {matrix.name for matrix in outcome.matrices}:
        raise CheckpointCorruptError(f"{folder} packs other tensors than its pst.json names.")
    entries = 0
    for matrix in outcome.matrices:
        mask_OI = masks[matrix.name] if matrix.output_axis == 0 else masks[matrix.name].T
        if sum(matrix.parts) != len(mask_OI):
            raise CheckpointCorruptError(f"{matrix.name} has other parts than its pst.json says.")
        _check_parts(matrix, mask_OI, outcome.spec)
        if mask_OI.size - int(mask_OI.sum()) != matrix.pruned:
            raise SparsityMissedError(f"{matrix.name} is not pruned as its pst.json says.")
        entries += mask_OI.size
    if outcome.spec.scope == "global":
        asked = prune_count(outcome.spec.sparsity or 0.0, entries)
        found = sum(matrix.pruned for matrix in outcome.matrices)
        if found != asked:
            raise SparsityMissedError(f"{found} entries are pruned; {asked} were asked for.")


def _check_parts(matrix: PrunedMatrix, mask_OI: Mask, spec: CompressionSpec) -> None:
    """Whether each logical matrix, or each group of a pattern, keeps as many as were asked for."""
    if spec.pattern != "unstructured":
        n, m = map(int, spec.pattern.split(":"))
        if (mask_OI.reshape(-1, m).sum(1) != n).any():
            raise SparsityMissedError(f"{matrix.name} does not keep {n} of every {m} entries.")
        return
    if spec.scope == "global":
        return
    for part_OI in np.split(mask_OI, np.cumsum(matrix.parts)[:-1]):
        pruned = part_OI.size - int(part_OI.sum())
        asked = prune_count(spec.sparsity or 0.0, part_OI.size)
        if pruned != asked:
            raise SparsityMissedError(
                f"{matrix.name} has {pruned} pruned entries; {asked} were asked for."
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


def _evaluate(folder: Path, outcome: Outcome, sources: Sources) -> Scores:
    model, _ = load(folder)
    # With the tokenizer that was exported, not the base model's.
    exported = Sources(model=folder, dataset=sources.dataset)
    prepared = prepare(outcome.spec, exported, splits=("test",))
    found = prepared.score(to_device(model), "test").scores
    told = outcome.evaluation.test
    if found.rows != told.rows or not _is_close(found, told):
        raise CheckpointCorruptError(
            f"{folder} scores {found.primary} {found.value:g} on the test split, and its trainer "
            f"reported {told.value:g}."
        )
    return found


def _is_close(found: Scores, told: Scores) -> bool:
    """Whether two scores differ by no more than a tenth of the interval measured here.

    Other threads and addresses give other last bits, and where answers are close, another answer.
    """
    low, high = found.estimate.low, found.estimate.high
    chance = 0.0 if low is None or high is None else (high - low) / 10
    return math.isclose(found.value, told.value, rel_tol=1e-4, abs_tol=chance)
