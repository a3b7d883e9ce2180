"""Opens exported checkpoints again, in a process that did not write them, and attests.

Nothing here trusts the trainer's memory: files, masks, zeros and accuracy are read from the disk.
"""

import hashlib
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from pst_core.adapters import rebuild
from pst_core.answers import compare_answers
from pst_core.batches import Collator
from pst_core.errors import CheckpointCorruptError, SparsityMissedError
from pst_core.formats.folder import weight_files
from pst_core.formats.manifest import (
    Attestation,
    Manifest,
    TensorRecord,
    list_files,
    read_manifest,
    write_manifest,
)
from pst_core.formats.mask_coding import Mask
from pst_core.formats.onnx import is_onnx, load_onnx
from pst_core.formats.packed import read_masks
from pst_core.formats.rounding import NAMES, round_to
from pst_core.formats.tensor_file import FLOATS, opened
from pst_core.formats.zeros import count_file
from pst_core.loading import load, verify_files
from pst_core.masks import prune_count
from pst_core.prepare import Prepared, Sources, prepare
from pst_core.pretrained import to_device
from pst_core.references import DataSource
from pst_core.report import Outcome, PrunedMatrix, Scores
from pst_core.spec import UNPRUNED, CompressionSpec, Format, ValueDtype

Records = Mapping[str, TensorRecord]
# Dtype, shape and SHA-256 of a tensor.
Identity = tuple[str, tuple[int, ...], str]
# Rows of the test split on which formats with other tensors are compared.
_COMPARED = 32


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
    refused = _read_manifest(out_dir / "dense").outcome.refused
    always: set[Format] = {"dense"} if spec.method in UNPRUNED else {"dense", "packed"}
    for name in sorted((always | {*spec.formats}) - refused.keys()):
        folder = out_dir / name
        manifest = _read_manifest(folder)
        if manifest.outcome.spec != spec or manifest.format != name:
            raise CheckpointCorruptError(f"{folder} was made from another spec or format.")
        found = _examine(folder, manifest, sources)
        if found.equals_dense:
            value_dtype = spec.value_dtype if name == "packed" else None
            expected = _rounded(out_dir / "dense", value_dtype)
            _require_equal(folder, _identities(found.tensors), expected)
        else:
            _compare(folder, out_dir / "dense", manifest, sources.dataset)
        write_manifest(folder, manifest.model_copy(update={"attestation": found}))


def verify_checkpoint(folder: Path, sources: Sources) -> Attestation:
    """Check a finished checkpoint, wherever it came from, against all that its ``pst.json`` says.

    Args:
        folder: A checkpoint of any format.
        sources: Of the data to evaluate on again, and of the model that an adapter needs.

    Returns:
        What was found.

    Raises:
        CheckpointCorruptError: A file, a tensor or the score is not what was attested, or nothing
            was.
        SparsityMissedError: It is not as sparse as was asked for.
    """
    manifest = _read_manifest(folder)
    if manifest.attestation is None:
        raise CheckpointCorruptError(
            f"{folder} was never verified after it was written.", remedy="Make it again."
        )
    found = _examine(folder, manifest, sources)
    _require_equal(folder, _identities(found.tensors), _identities(manifest.attestation.tensors))
    return found


def _read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder that holds what it lists, and nothing else."""
    manifest = read_manifest(folder)
    verify_files(folder)
    if strangers := list_files(folder).keys() - manifest.files.keys():
        raise CheckpointCorruptError(
            f"{folder} has files that its pst.json does not list: {min(strangers)}."
        )
    return manifest


def _examine(folder: Path, manifest: Manifest, sources: Sources) -> Attestation:
    outcome, dataset = manifest.outcome, sources.dataset
    match manifest.format:
        case "adapter":
            with tempfile.TemporaryDirectory() as scratch:
                dense = Path(scratch) / "dense"
                rebuild(folder, sources.model, dense)
                return _attest(_records(dense), outcome, _evaluate(dense, outcome, dataset))
        case "compact":
            test = _evaluate(folder, outcome, dataset)
            return Attestation(tensors=_records(folder), zeros=None, equals_dense=False, test=test)
        case "onnx":
            test = _evaluate(folder, outcome, dataset)
            return Attestation(tensors={}, zeros=None, equals_dense=False, test=test)
        case "packed":
            _check_masks(folder, outcome)
    return _attest(
        _records(folder, is_packed=manifest.format == "packed"),
        outcome,
        _evaluate(folder, outcome, dataset),
    )


def _attest(records: Records, outcome: Outcome, test: Scores) -> Attestation:
    zeros = _sum_zeros(records, outcome)
    return Attestation(tensors=dict(records), zeros=zeros, equals_dense=True, test=test)


def _records(folder: Path, *, is_packed: bool = False) -> dict[str, TensorRecord]:
    counts = (
        count
        for path in weight_files(folder)
        for count in count_file(path, may_be_packed=is_packed, hashed=True)
    )
    return {
        count.name: TensorRecord(
            dtype=count.dtype, shape=count.shape, zeros=count.zeros, sha256=count.sha256 or ""
        )
        for count in counts
    }


def _compare(folder: Path, dense: Path, manifest: Manifest, dataset: DataSource) -> None:
    """Hold a format that has other tensors to the dense model's answers on the first test rows."""
    prepared = _prepare(folder, manifest.outcome, dataset)
    examples, model = prepared.examples["test"], load(dense)[0].float()
    rows = range(min(len(examples), _COMPARED))
    batch = Collator.of(prepared.tokenizer, model.config)(examples, rows)
    compare_answers(folder, _load(folder).float(), model, [batch])


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


def _sum_zeros(records: Records, outcome: Outcome) -> int:
    """The zeros of the pruned matrices, each of which has at least those of its mask."""
    total = 0
    for matrix in outcome.matrices:
        record = records.get(matrix.name)
        zeros = (record and record.zeros) or 0
        if zeros < matrix.pruned:
            raise SparsityMissedError(f"{matrix.name} has {zeros} zeros, not {matrix.pruned}.")
        total += zeros
    return total


def _identities(records: Records) -> dict[str, Identity]:
    return {name: (found.dtype, found.shape, found.sha256) for name, found in records.items()}


def _require_equal(
    folder: Path, found: Mapping[str, Identity], expected: Mapping[str, Identity]
) -> None:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise CheckpointCorruptError(
                f"{name} in {folder} has other bits than it was exported with."
            )


def _rounded(dense: Path, value_dtype: ValueDtype | None) -> dict[str, Identity]:
    """The tensors of a dense folder, as they are once rounded."""
    found: dict[str, Identity] = {}
    for path in weight_files(dense):
        with opened(path) as reader:
            for entry in reader.entries:
                dtype, data = entry.dtype, reader.read(entry)
                if value_dtype is not None and dtype in FLOATS:
                    values = round_to(data.view(FLOATS[dtype]), dtype, value_dtype)
                    dtype, data = NAMES[value_dtype], values.view(np.uint8)
                digest = hashlib.sha256(data.data).hexdigest()
                found[entry.name] = dtype, entry.shape, digest
    return found


def _prepare(folder: Path, outcome: Outcome, dataset: DataSource) -> Prepared:
    # With the tokenizer that was exported, not the base model's.
    exported = Sources(model=folder, dataset=dataset)
    return prepare(outcome.spec, exported, splits=("test",))


def _load(folder: Path) -> PreTrainedModel:
    return load_onnx(folder) if is_onnx(folder) else to_device(load(folder)[0])


def _evaluate(folder: Path, outcome: Outcome, dataset: DataSource) -> Scores:
    prepared = _prepare(folder, outcome, dataset)
    found = prepared.score(_load(folder), "test").scores
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
