"""Finds the heads and neurons whose part in their layer's output is the same for every input.

Where they lie is known to structures.py. Shapes: O out, I in; n units (neurons, groups of heads).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN

from pst_core.errors import CheckpointCorruptError, NotCompactableError
from pst_core.fields import Count, Strict
from pst_core.formats.block_names import FAMILIES, Family
from pst_core.formats.folder import weight_files
from pst_core.formats.structures import Layer, Rows, head_layers, neuron_layers
from pst_core.formats.tensor_file import opened

Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.float64]


class IdleUnits(Strict):
    """Of one layer."""

    layer: str
    idle: Count
    all: Count


class ZeroStructures(Strict):
    """What pruning has emptied, layer by layer: structures that no input makes a difference to."""

    neurons: tuple[IdleUnits, ...]
    heads: tuple[IdleUnits, ...]
    """Query heads."""


def zero_structures(dense_dir: Path) -> ZeroStructures:
    """Count the neurons and heads that do nothing.

    A neuron does nothing if no later weight takes it up, or if its own weights are zero and the
    next bias can take up the constant it gives; a head likewise, by its part of the output
    projection or by its values.

    Args:
        dense_dir: A Hugging Face folder with its zeros in place. One matrix is read at a time.

    Raises:
        NotCompactableError: Nothing is known of the model type.
        CheckpointCorruptError: The folder cannot be read.
    """
    folder = open_folder(dense_dir)
    family, config, shapes = folder.family(), folder.config, folder.shapes
    return ZeroStructures(
        neurons=tuple(_count(folder, layer) for layer in neuron_layers(family, config, shapes)),
        heads=tuple(_count(folder, layer) for layer in head_layers(family, config, shapes)),
    )


class _File(Protocol):
    def get_tensor(self, name: str) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A dense folder, opened: its configuration and the shape of each tensor."""

    config: PreTrainedConfig
    shapes: Mapping[str, tuple[int, ...]]
    _files: Mapping[str, _File]

    def tensor(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def matrix(self, layer: Layer, linear: str) -> Tensor:
        """A linear layer's weight, O×I however it is stored."""
        weight = self.tensor(f"{layer.name}.{linear}.weight")
        return weight.T if layer.transposed else weight

    def bias(self, layer: Layer, linear: str) -> Tensor | None:
        name = f"{layer.name}.{linear}.bias"
        return self.tensor(name) if name in self.shapes else None

    def family(self) -> Family:
        kind = self.config.model_type
        if kind in FAMILIES:
            return FAMILIES[kind]
        raise NotCompactableError(
            f"Where the heads and neurons of a {kind} lie is not known.",
            remedy=f"It is for {', '.join(sorted(FAMILIES))}.",
        )


def open_folder(dense_dir: Path) -> Folder:
    """Open a dense folder's configuration and weights; no tensor is read before it is asked for.

    Raises:
        CheckpointCorruptError: One of its files is missing or malformed.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    files: dict[str, _File] = {}
    try:
        config = AutoConfig.from_pretrained(dense_dir, local_files_only=True)
        for path in weight_files(dense_dir):
            file: Any = safe_open(path, framework="pt")
            with opened(path) as reader:
                for entry in reader.entries:
                    shapes[entry.name] = entry.shape
                    files[entry.name] = file
    except (SafetensorError, OSError) as error:
        raise CheckpointCorruptError(f"{dense_dir} cannot be read: {error}") from error
    return Folder(config, shapes, files)


def constants(folder: Folder, layer: Layer) -> Numbers:
    """What each column of the output's matrix is multiplied with, where that is a constant.

    Returns:
        float64, I; NaN where it depends on the input.
    """
    if layer.activation:
        return _neuron_constants(folder, layer)
    # Attention's weights sum to one, so that values that are all the same come out as they are.
    value_n = _row_constants(folder, layer, layer.inputs["value"])
    return np.repeat(value_n.reshape(layer.units, 1, -1), layer.heads, axis=1).reshape(-1)


def _neuron_constants(folder: Folder, layer: Layer) -> Numbers:
    activation = ACT2FN[layer.activation]
    rows_n = {role: _row_constants(folder, layer, rows) for role, rows in layer.inputs.items()}
    if "gate" not in rows_n:
        return _apply(activation, rows_n["up"])
    gate_n, up_n = _apply(activation, rows_n["gate"]), rows_n["up"]
    # Zero times whatever the other one is.
    return np.where((gate_n == 0) | (up_n == 0), 0.0, gate_n * up_n)


def _apply(activation: Any, values_n: Numbers) -> Numbers:  # noqa: ANN401 -- transformers does not type them
    result: Tensor = activation(torch.from_numpy(values_n))
    return result.numpy()


def _row_constants(folder: Folder, layer: Layer, rows: Rows) -> Numbers:
    """The bias of each row that is all zero, in the order of the units; NaN for the others."""
    index = torch.from_numpy(rows.of(np.arange(layer.units)))
    empty = ~folder.matrix(layer, rows.linear).any(1)[index].numpy()
    bias = folder.bias(layer, rows.linear)
    values = np.zeros(len(empty)) if bias is None else bias[index].double().numpy()
    return np.where(empty, values, np.nan)


def idle_columns(folder: Folder, layer: Layer) -> Flags:
    """The columns of the output's matrix, I, that matter to no input, or to its bias alone."""
    unused = ~folder.matrix(layer, layer.output.linear).any(0).numpy()
    constant = constants(folder, layer)
    has_bias = folder.bias(layer, layer.output.linear) is not None
    idle: Flags = unused | (~np.isnan(constant) if has_bias else constant == 0)
    return idle


def idle_units(folder: Folder, layer: Layer) -> Flags:
    """The neurons, or groups of heads, that are idle in all of their columns; n."""
    idle: Flags = np.all(idle_columns(folder, layer).reshape(layer.units, -1), axis=1)
    return idle


def _count(folder: Folder, layer: Layer) -> IdleUnits:
    heads = layer.units * layer.heads
    idle = idle_columns(folder, layer).reshape(heads, -1).all(1)
    return IdleUnits(layer=layer.name, idle=int(idle.sum()), all=heads)
