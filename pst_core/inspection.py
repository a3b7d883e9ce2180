"""Counts the zeros in the weights of a checkpoint folder, whoever made it. Free of torch.

One file is counted by formats/zeros.py; the result is shown by inspection_table.py.
"""

from collections.abc import Sequence
from pathlib import Path

from pst_core.errors import CheckpointCorruptError, ModelNotFoundError, SparsityMissedError
from pst_core.fields import Strict
from pst_core.formats import packed
from pst_core.formats.folder import INDEX, read_json, weight_files
from pst_core.formats.manifest import MANIFEST, read_manifest
from pst_core.formats.zeros import TensorCount, count_file, share
from pst_core.report import Outcome

_WITH_ALL_MATRICES = ("dense", "packed")


class Totals(Strict):
    tensors: int
    entries: int
    """Of the tensors whose zeros were counted."""
    zeros: int
    pruned: int
    sparsity: float
    bytes: int


class Claim(Strict):
    """What the folder's pst.json says of its pruned matrices, against what was counted."""

    asked: float | None
    """The sparsity asked for; null: none was."""
    claimed: float
    counted: float
    """Zeros by value in the matrices that it names."""
    contradictions: tuple[str, ...]


class Inspection(Strict):
    packed: bool
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    """Safetensors files beside those that make the model."""
    tensors: tuple[TensorCount, ...]
    totals: Totals
    claim: Claim | None
    """Null: there is no pst.json."""

    def require_claim(self) -> None:
        """Raise SparsityMissedError where pst.json says something else than was counted."""
        if self.claim is None or not self.claim.contradictions:
            return
        first, *others = self.claim.contradictions
        more = f", and {len(others)} more" if others else ""
        raise SparsityMissedError(
            f"{MANIFEST} does not fit the weights: {first}{more}.",
            remedy="One of them was changed since they were written.",
        )


def inspect(folder: Path) -> Inspection:
    """Count the zeros of every tensor in a folder.

    Where there is `model.safetensors` it is the model, else the shards that the index names, else
    every safetensors file. At most one packed tensor is in memory, in dense form.

    Raises:
        ModelNotFoundError: There is no such folder, or no safetensors file in it.
        CheckpointCorruptError: A file cannot be read; names it.
        CheckpointVersionError: A newer release packed it.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"There is no folder {folder}.", remedy="Name a folder with safetensors files."
        )
    try:
        return _inspect(folder)
    except CheckpointCorruptError as error:
        error.remedy = error.remedy or "Copy or download it again."
        raise


def _inspect(folder: Path) -> Inspection:
    config = folder / "config.json"
    is_packed = config.is_file() and packed.is_packed(folder)
    if is_packed:
        packed.require_version(read_json(config)["quantization_config"].get("version"))
    paths = _paths(folder)
    tensors = tuple(count for path in paths for count in count_file(path, may_be_packed=is_packed))
    files = tuple(path.name for path in paths)
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if manifest is not None and manifest.format not in _WITH_ALL_MATRICES:
        manifest = None
    return Inspection(
        packed=is_packed,
        files=files,
        left_out=tuple(sorted({path.name for path in folder.glob("*.safetensors")} - {*files})),
        tensors=tensors,
        totals=_sum_up(tensors),
        claim=_compare(manifest.outcome, tensors) if manifest else None,
    )


def _paths(folder: Path) -> Sequence[Path]:
    found = sorted(folder.glob("*.safetensors"))
    names = {path.name for path in found}
    # transformers would load these, whatever else lies beside them.
    if "model.safetensors" in names or (folder / INDEX).exists():
        return weight_files(folder)
    if not found:
        raise ModelNotFoundError(
            f"{folder} has no safetensors files.",
            remedy="Save the model as safetensors first: other formats can run code when opened.",
        )
    return found


def _sum_up(tensors: Sequence[TensorCount]) -> Totals:
    entries = sum(tensor.entries for tensor in tensors if tensor.zeros is not None)
    zeros = sum(tensor.zeros or 0 for tensor in tensors)
    return Totals(
        tensors=len(tensors),
        entries=entries,
        zeros=zeros,
        pruned=sum(tensor.pruned or 0 for tensor in tensors),
        sparsity=share(zeros, entries),
        bytes=sum(tensor.bytes for tensor in tensors),
    )


def _compare(outcome: Outcome, tensors: Sequence[TensorCount]) -> Claim:
    by_name = {tensor.name: tensor for tensor in tensors}
    named = [by_name[matrix.name] for matrix in outcome.matrices if matrix.name in by_name]
    contradictions = []
    for matrix in outcome.matrices:
        tensor = by_name.get(matrix.name)
        if tensor is None or tensor.shape != matrix.shape:
            contradictions.append(f"there is no {matrix.name} of shape {matrix.shape}")
        # Kept entries may be zero by chance; by the mask not one more or less is.
        elif tensor.pruned not in {None, matrix.pruned} or (tensor.zeros or 0) < matrix.pruned:
            found = tensor.zeros if tensor.pruned is None else tensor.pruned
            contradictions.append(f"{matrix.name} has {found} zeros, not {matrix.pruned}")
    totals = _sum_up(named)
    return Claim(
        asked=outcome.spec.sparsity,
        claimed=outcome.sparsity,
        counted=totals.sparsity,
        contradictions=tuple(contradictions),
    )
