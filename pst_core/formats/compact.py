"""The compact format: a smaller dense folder, without the heads and neurons that do nothing.

idle.py finds them. What is left has the shapes of an ordinary model, and is one.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CONFIG_MAPPING

from pst_core.errors import NotCompactableError
from pst_core.fields import Count, Strict
from pst_core.formats.folder import INDEX, Convert, read_json, rewrite, staged, write_json
from pst_core.formats.idle import Flags, Folder, constants, idle_units, open_folder
from pst_core.formats.packed import to_tensor
from pst_core.formats.structures import (
    Indices,
    Layer,
    feed_forward_of,
    head_layers,
    neuron_layers,
)
from pst_core.formats.tensor_file import FLOATS, Bytes, Entry, TensorReader, TensorWriter


class Removal(Strict):
    """What was taken out of every layer, as many of each: a configuration has one number."""

    before: Count
    after: Count
    layers: dict[str, tuple[int, ...]]
    """Which, by the layer's name: their numbers in the dense model, in order."""


class Removed(Strict):
    neurons: Removal
    heads: Removal
    """Query heads; with those of a group go its key and its value."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A layer and the units that stay in it."""

    layer: Layer
    kept: Indices

    @property
    def gone(self) -> Indices:
        return np.setdiff1d(np.arange(self.layer.units), self.kept)


@dataclass(frozen=True, slots=True)
class _Slice:
    """How one tensor gets smaller: along an axis, to the entries that stay."""

    axis: int
    kept: Tensor


def write_compact(dense_dir: Path, out_dir: Path) -> Removed:
    """Write a dense folder without the neurons and heads that do nothing, for plain transformers.

    The outputs stay the same but for rounding. As many are taken out of each layer as the layer
    with the fewest has; the others stay, with their zeros. Constants that removed ones gave are
    summed in float64 and added to the next bias. One tensor is in memory at a time.

    Args:
        dense_dir: A finished folder of safetensors, in one file or in shards.
        out_dir: The folder to make. It may exist if it is empty; it appears whole or not at all.

    Raises:
        NotCompactableError: Some layer has nothing to remove, or nothing is known of the model.
        CheckpointCorruptError: The dense folder cannot be read.
        FileExistsError: `out_dir` holds something.
    """
    folder = open_folder(dense_dir)
    family = folder.family()
    neurons = _Choice(folder, neuron_layers(family, folder.config, folder.shapes), "neuron")
    heads = _Choice(folder, head_layers(family, folder.config, folder.shapes), "head")
    document = read_json(dense_dir / "config.json")
    groups = _removable_groups(document, heads) if family.attention.resizable else 0
    if not neurons.fewest and not groups:
        raise NotCompactableError(
            _reason(neurons, heads, resizable=family.attention.resizable),
            remedy="Prune more, or take the packed format, which keeps single zeros small.",
        )
    document[feed_forward_of(family, folder.shapes).size] = neurons.units - neurons.fewest
    if groups:
        document |= _head_keys(heads, groups)
    with staged(out_dir) as stage:
        cuts = [*neurons.cuts(neurons.fewest), *heads.cuts(groups)]
        convert = _converter(folder, [cut for cut in cuts if cut.gone.size])
        rewrite(dense_dir, stage, document, convert)
        _drop_stale_counts(stage)
    return Removed(neurons=neurons.removal(neurons.fewest), heads=heads.removal(groups))


class _Choice:
    """The layers of one kind, and what can go in each."""

    def __init__(self, folder: Folder, layers: Sequence[Layer], noun: str) -> None:
        if not layers:
            raise NotCompactableError(
                f"The model has no layers with {noun}s, as a {folder.config.model_type} should."
            )
        self.layers, self.noun = layers, noun
        self.units, self.heads = layers[0].units, layers[0].heads
        self._idle: list[Flags] = [idle_units(folder, layer) for layer in layers]

    @property
    def fewest(self) -> int:
        """How many units can go in every layer; one always stays, for there must be some."""
        return min(self.units - 1, *(int(idle.sum()) for idle in self._idle))

    def cuts(self, gone: int) -> list[_Cut]:
        return [
            _Cut(layer, np.setdiff1d(np.arange(layer.units), np.flatnonzero(idle)[:gone]))
            for layer, idle in zip(self.layers, self._idle, strict=True)
        ]

    def removal(self, gone: int) -> Removal:
        group = np.arange(self.heads)
        return Removal(
            before=self.units * self.heads,
            after=(self.units - gone) * self.heads,
            layers={
                cut.layer.name: tuple((cut.gone[:, None] * self.heads + group).ravel().tolist())
                for cut in self.cuts(gone)
            },
        )

    def shortage(self) -> str:
        counts = [int(idle.sum()) for idle in self._idle]
        layer = self.layers[counts.index(min(counts))].name
        what = f"groups of {self.heads} heads" if self.heads > 1 else f"{self.noun}s"
        return f"of {what} {layer} has the fewest that do nothing, {min(counts)} of {self.units}"


def _reason(neurons: _Choice, heads: _Choice, *, resizable: bool) -> str:
    why = heads.shortage()
    if not resizable:
        why = "the configuration has no way to say that heads are missing"
    elif heads.fewest:
        why += ", and what would be left does not divide the width"
    return f"Nothing can be taken out of every layer: {neurons.shortage()}; {why}."


def _removable_groups(document: Mapping[str, Any], heads: _Choice) -> int:
    """How many groups of heads can go so that the configuration still stands.

    Some classes want the number of heads to divide the width, even where it need not.
    """
    for gone in range(heads.fewest, 0, -1):
        changed = copy.deepcopy(dict(document)) | _head_keys(heads, gone)
        try:
            CONFIG_MAPPING[document["model_type"]].from_dict(changed)
        except (StrictDataclassError, ValueError):
            continue
        return gone
    return 0


def _head_keys(heads: _Choice, gone: int) -> dict[str, object]:
    units, layer = heads.units - gone, heads.layers[0]
    return {
        "num_attention_heads": units * heads.heads,
        "num_key_value_heads": units,
        "head_dim": layer.output.count // heads.heads,
    }


def _converter(folder: Folder, cuts: Sequence[_Cut]) -> Convert:
    """Gives each tensor its new shape, and the output biases what the removed units gave."""
    slices = _slices(folder, cuts)
    folds = {f"{cut.layer.name}.{cut.layer.output.linear}.bias": cut for cut in cuts}

    def convert(reader: TensorReader, entry: Entry, writer: TensorWriter) -> None:
        data, shape = reader.read(entry), entry.shape
        if entry.name in folds or entry.name in slices:
            values = data.view(FLOATS[entry.dtype]).reshape(shape)
            tensor = to_tensor(values.copy())
            if entry.name in folds:
                tensor = _take_up(folder, folds[entry.name], tensor)
            else:
                part = slices[entry.name]
                tensor = tensor.index_select(part.axis, part.kept)
            data, shape = _bytes_of(tensor), tuple(tensor.shape)
        writer.add(entry.name, entry.dtype, shape, data.data)

    return convert


def _bytes_of(tensor: Tensor) -> Bytes:
    found: Bytes = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return found


def _drop_stale_counts(folder: Path) -> None:
    """Without the number of parameters that some write into the index: no reader needs it."""
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        index["metadata"] = {"total_size": index["metadata"]["total_size"]}
        write_json(folder / INDEX, index)


def _slices(folder: Folder, cuts: Sequence[_Cut]) -> dict[str, _Slice]:
    """Which tensors get smaller, and how."""
    slices = {}
    for cut in cuts:
        layer, output = cut.layer, cut.layer.output
        for linear in {rows.linear for rows in layer.inputs.values()}:
            parts = [rows for rows in layer.inputs.values() if rows.linear == linear]
            gone = np.concatenate([rows.of(cut.gone) for rows in parts])
            axis = 1 if layer.transposed else 0
            size = folder.shapes[f"{layer.name}.{linear}.weight"][axis]
            kept = torch.from_numpy(np.setdiff1d(np.arange(size), gone))
            slices[f"{layer.name}.{linear}.weight"] = _Slice(axis, kept)
            slices[f"{layer.name}.{linear}.bias"] = _Slice(0, kept)
        columns = torch.from_numpy(output.of(cut.kept))
        slices[f"{layer.name}.{output.linear}.weight"] = _Slice(
            0 if layer.transposed else 1, columns
        )
    return slices


def _take_up(folder: Folder, cut: _Cut, bias: Tensor) -> Tensor:
    """The bias of an output with the constants that the removed columns gave."""
    gone = torch.from_numpy(cut.layer.output.of(cut.gone))
    # What is not constant goes by a column of zeros.
    constant = torch.from_numpy(np.nan_to_num(constants(folder, cut.layer)))[gone]
    weight_OI = folder.matrix(cut.layer, cut.layer.output.linear)[:, gone]
    return (bias.double() + weight_OI.double() @ constant).to(bias.dtype)
