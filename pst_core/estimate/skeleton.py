"""A model without its weights, made as training makes it: what will be pruned, and what trains.

Nothing here is computed; every tensor is on the `meta` device.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from pst_core.convert import Converted
from pst_core.errors import UnsupportedModelError
from pst_core.masks import prune_count
from pst_core.recipes import Hyperparameters
from pst_core.spec import UNPRUNED, CompressionSpec, Method
from pst_core.stages import parameter_groups, sparse_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What a stage has, in numbers.

    Args:
        parameters: Of the model, before anything is added.
        trainable: Of those and of what is added.
        added: Parameters and buffers that the method adds: factors, scores, adapters.
        shapes: Of each pruned matrix, O×I.
        parts: The rows of each logical matrix in each of them.
    """

    parameters: int
    trainable: int
    added: int
    shapes: Mapping[str, tuple[int, int]]
    parts: Mapping[str, tuple[int, ...]]

    @property
    def entries(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    @property
    def largest(self) -> int:
        return max(map(math.prod, self.shapes.values()), default=0)

    def pruned(self, spec: CompressionSpec) -> int:
        """How many entries the masks will zero, as masks.py counts them."""
        if not self.shapes or spec.sparsity is None:
            return 0
        if spec.pattern != "unstructured" or spec.scope == "global":
            return prune_count(spec.sparsity, self.entries)
        return sum(
            prune_count(spec.sparsity, rows * columns)
            for name, (_, columns) in self.shapes.items()
            for rows in self.parts[name]
        )


def skeleton(config: PreTrainedConfig, spec: CompressionSpec, labels: int) -> PreTrainedModel:
    """The model that training will load, from its configuration alone.

    Args:
        config: The pretrained model's.
        spec: Says the task.
        labels: Classes; 1 for a number.

    Raises:
        UnsupportedModelError: There is no such model for the task.
    """
    config = copy.deepcopy(config)
    classifies = spec.task in ("text-classification", "text-regression")
    if classifies:
        config.num_labels = labels
    return _on_meta(config, classifies=classifies)


def _on_meta(config: PreTrainedConfig, *, classifies: bool) -> PreTrainedModel:
    auto_class = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:
        # What an odd configuration makes transformers raise shares no other base.
        raise UnsupportedModelError(
            f"The model cannot be made for this task: {error}",
            field="model",
            remedy="Use a transformer such as BERT, RoBERTa, GPT-2 or Llama.",
        ) from error
    return model


def count(
    model: PreTrainedModel, spec: CompressionSpec, method: Method, *, new_head: bool
) -> Counted:
    """Convert a skeleton as training converts the model, and count; it is not plain any more.

    Raises:
        UnsupportedModelError: There is nothing to prune, or a pattern fits nothing.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    hyper = _without_values(spec.resolved_hyperparameters())
    sparse = Converted({}) if method in UNPRUNED else sparse_layers(model, spec, hyper)
    # Rates depend on the number of steps; what trains does not.
    groups = parameter_groups(
        spec, model, sparse, method, hyper=hyper, new_head=new_head, total_steps=1
    )
    buffers = sum(b.numel() for layer in sparse.layers.values() for b in layer.buffers())
    inside = sum(parameter.numel() for parameter in model.parameters())
    return Counted(
        parameters=parameters,
        trainable=sum(p.numel() for group in groups for p in group.parameters),
        added=inside + buffers - parameters,
        shapes={name: _shape(layer) for name, layer in sparse.layers.items()},
        parts={name: layer.selector.parts for name, layer in sparse.layers.items()},
    )


def _shape(layer: nn.Module) -> tuple[int, int]:
    rows, columns = layer.get_parameter("weight").shape
    return rows, columns


def _without_values(hyper: Hyperparameters) -> Hyperparameters:
    """The recipe without what is measured of the weights, which changes no shape."""
    return hyper.model_copy(update={"relative": False})
