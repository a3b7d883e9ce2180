"""The adapter format: what PST trained of a model; with its base model, the dense folder again.

Files and folders: adapter_tensors.py has the tensors, adapters.py finds and loads base models, and
docs/formats.md draws the layout.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pst_core.errors import BaseMismatchError, CheckpointCorruptError
from pst_core.formats.adapter_contents import (
    PARTS,
    BaseEntry,
    Contents,
    TensorEntry,
    dump,
    listing_sha256,
    parse,
    require_version,
)
from pst_core.formats.adapter_tensors import (
    DTYPES,
    Update,
    describe,
    join,
    original,
    require,
    sha256,
)
from pst_core.formats.folder import INDEX, copy_others, read_json, staged, weight_files
from pst_core.formats.sealed import SEAL, check_seal, opened_sealed, save_sealed

WEIGHTS = "adapter.safetensors"

_SINGLE = "model.safetensors"


def write_adapter(
    dense_dir: Path,
    base: Mapping[str, Tensor],
    updates: Mapping[str, Update],
    out_dir: Path,
    *,
    reference: str,
) -> None:
    """Write what a dense folder has beyond its base model; files other than weights are copied.

    Args:
        dense_dir: The folder to read.
        base: The base model's tensors, by name.
        updates: Of each pruned matrix, by its name in the dense folder.
        out_dir: The folder to make. It may exist if it is empty; it appears whole or not at all.
        reference: What the base model is called.

    Raises:
        ValueError: Base and updates do not make the dense folder.
        CheckpointCorruptError: The dense folder cannot be read.
        FileExistsError: `out_dir` holds something.
    """
    tensors: dict[str, TensorEntry] = {}
    taken: dict[str, TensorEntry] = {}
    stored: dict[str, Tensor] = {}
    for name, tensor in _read_dense(dense_dir):
        entry = tensors[name] = describe(tensor)
        source = original(base, name, entry.dtype)
        if name in updates:
            _require_makes(updates[name], source, name, entry)
            stored |= updates[name].parts(name)
        elif source is None or describe(source) != entry:
            stored[name] = tensor
        if source is not None and name not in stored:
            taken[name] = describe(source)
    if absent := updates.keys() - tensors.keys():
        raise ValueError(f"{dense_dir} has no tensors {sorted(absent)}.")
    contents = Contents(
        base=BaseEntry(reference=reference, sha256=listing_sha256(taken)),
        betas={name: update.factors.beta for name, update in updates.items()},
        stored={name: sha256(tensor) for name, tensor in stored.items()},
        tensors=tensors,
    )
    with staged(out_dir) as stage:
        _copy_others(dense_dir, stage)
        save_sealed(stored, dump(contents), stage / WEIGHTS)


def rebuild(adapter_dir: Path, base: Mapping[str, Tensor], out_dir: Path) -> None:
    """Write the dense folder that an adapter was made of, bit for bit in every tensor.

    Args:
        adapter_dir: The folder to read.
        base: The base model's tensors, by name.
        out_dir: As in `write_adapter`.

    Raises:
        BaseMismatchError: The adapter was made from another base model.
        CheckpointCorruptError: The adapter cannot be read; names the tensor.
        CheckpointVersionError: A newer release wrote it.
        FileExistsError: `out_dir` holds something.
    """
    with opened(adapter_dir) as adapter, staged(out_dir) as stage:
        dense = adapter.over(base)
        _copy_others(adapter_dir, stage)
        for file, names in _shards(adapter_dir, adapter.contents).items():
            tensors = {name: dense.tensor(name) for name in names}
            save_file(tensors, stage / file, metadata={"format": "pt"})


def is_adapter(directory: Path) -> bool:
    return (directory / WEIGHTS).is_file()


@dataclass(frozen=True, slots=True)
class Adapter:
    """An opened adapter, whose header is as it was written; tensors are checked as they are read.

    Args:
        path: Of its file.
        contents: What it says of itself.
        file: The same file, opened.
    """

    path: Path
    contents: Contents
    file: Any

    def over(self, base: Mapping[str, Tensor]) -> "DenseModel":
        """Check that a base model is the one the adapter was made from.

        Args:
            base: Its tensors by name. They stay as they are; floating-point ones may have another
                dtype, and the prefix of a model with a head may be lacking.

        Raises:
            BaseMismatchError: It is another.
        """
        taken: dict[str, TensorEntry] = {}
        for name in self.contents.tensors.keys() - self.contents.stored.keys():
            source = original(base, name, self.contents.tensors[name].dtype)
            if source is not None:
                taken[name] = describe(source)
        found, made_from = listing_sha256(taken), self.contents.base
        if found != made_from.sha256:
            raise BaseMismatchError(
                f"{self.path} was made from {made_from.reference}, whose tensors have the SHA-256 "
                f"{made_from.sha256}; those of this base model have {found}.",
                remedy=f"Give {made_from.reference} as its base, as it was then.",
            )
        return DenseModel(self, base, taken)

    def read(self, name: str) -> Tensor:
        """A tensor of the file, in memory of its own.

        Raises:
            CheckpointCorruptError: It is altered.
        """
        dtype = self.file.get_slice(name).get_dtype()
        require(dtype in DTYPES, name, f"adapters know no {dtype}")
        tensor: Tensor = self.file.get_tensor(name).clone()
        intact = sha256(tensor) == self.contents.stored[name]
        require(intact, name, "its SHA-256 is not that in the header")
        return tensor


@dataclass(frozen=True, slots=True)
class DenseModel:
    """What an adapter and its base model make.

    Args:
        adapter: The adapter.
        base: The base model's tensors, by name.
        taken: What each of those is that the adapter takes.
    """

    adapter: Adapter
    base: Mapping[str, Tensor]
    taken: Mapping[str, TensorEntry]

    def tensor(self, name: str) -> Tensor:
        """One tensor, bit for bit as it was exported, in memory of its own.

        Raises:
            CheckpointCorruptError: It cannot be made.
        """
        contents = self.adapter.contents
        entry = contents.tensors[name]
        if name in contents.stored:
            tensor = self.adapter.read(name)
            found = describe(tensor)
        elif (source := original(self.base, name, entry.dtype)) is None:
            raise CheckpointCorruptError(f"Neither the adapter nor its base model has {name}.")
        elif name in contents.betas:
            parts = {name + part: self.adapter.read(name + part) for part in PARTS}
            tensor = join(name, parts, contents.betas[name], source.shape).apply(source)
            found = describe(tensor)
        else:
            tensor, found = source.clone(), self.taken[name]
        require(found == entry, name, "it is not the one that was exported")
        return tensor


@contextmanager
def opened(adapter_dir: Path) -> Iterator[Adapter]:
    """Open an adapter.

    Raises:
        CheckpointCorruptError: There is none, or its header is malformed or altered.
        CheckpointVersionError: A newer release wrote it.
    """
    path = adapter_dir / WEIGHTS
    with opened_sealed(path) as (file, text):
        require_version(text)
        check_seal(path)
        contents = parse(text)
        if contents.stored.keys() | {SEAL} != set(file.keys()):
            raise CheckpointCorruptError(f"{path} holds other tensors than its header says.")
        yield Adapter(path, contents, file)


def _require_makes(update: Update, source: Tensor | None, name: str, entry: TensorEntry) -> None:
    if source is None or not update.fits(source.shape):
        raise ValueError(f"The base model has no matrix {name} that its update fits.")
    if describe(update.apply(source)) != entry:
        raise ValueError(f"The base model and its update do not make the tensor {name}.")


def _read_dense(dense_dir: Path) -> Iterator[tuple[str, Tensor]]:
    for path in weight_files(dense_dir):
        try:
            with safe_open(path, framework="pt") as file:
                for name in list(file.keys()):
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointCorruptError(f"{path} cannot be read: {error}") from error


def _shards(adapter_dir: Path, contents: Contents) -> dict[str, list[str]]:
    """Which tensors each weight file of the dense folder holds."""
    if not (adapter_dir / INDEX).is_file():
        return {_SINGLE: list(contents.tensors)}
    weight_map = read_json(adapter_dir / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or weight_map.keys() != contents.tensors.keys():
        raise CheckpointCorruptError(f"{adapter_dir / INDEX} names other tensors than {WEIGHTS}.")
    shards = defaultdict(list)
    for name, file in weight_map.items():
        inside = isinstance(file, str) and file == Path(file).name
        if not inside or not file.endswith(".safetensors"):
            raise CheckpointCorruptError(f"{adapter_dir / INDEX} names no file for {name}.")
        shards[file].append(name)
    return shards


def _copy_others(source: Path, target: Path) -> None:
    """Copy all but weights and manifest, and the index, which says where the tensors go again."""
    copy_others(source, target)
    if (source / INDEX).is_file():
        shutil.copyfile(source / INDEX, target / INDEX)
