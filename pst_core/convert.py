"""From a plain model to one with PST layers, and back to a plain one that holds the zeros.

Which matrices are pruned is decided here; how they are scored and trained is not.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pst_core.errors import UnsupportedModelError
from pst_core.layers import PSTLinear
from pst_core.spec import Hyperparameters


def prunable_linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The linear layers inside the encoder's blocks, by module name.

    A block is an entry of a ``ModuleList`` of the base model. Embeddings, norms, pooler and task
    head stand outside the blocks and are left alone.

    Raises:
        UnsupportedModelError: There is none, or the model has been converted already.
    """
    base = model.base_model
    prefix = f"{model.base_model_prefix}." if base is not model else ""
    if any(isinstance(module, PSTLinear) for module in base.modules()):
        raise UnsupportedModelError(
            "The model has been converted already.", field="model", remedy="Load it afresh."
        )
    stacks = [name for name, module in base.named_modules() if isinstance(module, nn.ModuleList)]
    linears = {
        prefix + name: module
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and any(name.startswith(f"{stack}.") for stack in stacks)
    }
    if not linears:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no blocks of linear layers to prune.",
            field="model",
            remedy="Use an encoder such as BERT, RoBERTa or DistilBERT.",
        )
    return linears


def convert(model: PreTrainedModel, hyperparameters: Hyperparameters) -> dict[str, PSTLinear]:
    """Put a PST layer in the place of every prunable linear, and freeze all but factors and head.

    Returns:
        The new layers, by module name, in the model's order.

    Raises:
        UnsupportedModelError: There is nothing to prune, or it has been done already.
    """
    layers = {
        name: PSTLinear(
            linear.weight,
            linear.bias,
            rank=hyperparameters.rank,
            score_rank=hyperparameters.score_rank,
            alpha1=hyperparameters.alpha1,
            alpha2=hyperparameters.alpha2,
            beta=hyperparameters.beta,
        )
        for name, linear in prunable_linears(model).items()
    }
    model.base_model.requires_grad_(False)
    for parameter in head_parameters(model).values():
        parameter.requires_grad = True
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    return layers


def head_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The task head: what stands outside the base model, and the base model's pooler."""
    base = model.base_model
    inside = {id(parameter) for parameter in base.parameters()}
    inside -= {
        id(parameter) for name, parameter in base.named_parameters() if name.startswith("pooler.")
    }
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if id(parameter) not in inside
    }


def set_sparsity(layers: Mapping[str, PSTLinear], sparsity: float) -> None:
    for layer in layers.values():
        layer.sparsity = sparsity


@torch.no_grad()
def materialize(model: PreTrainedModel, layers: Mapping[str, PSTLinear]) -> dict[str, Tensor]:
    """Put plain linears that hold M ⊙ W' in the place of the PST layers.

    Returns:
        The mask of each pruned weight (O×I, on the CPU), by its key in the state dict.
    """
    masks = {}
    for name, layer in layers.items():
        out_features, in_features = layer.weight.shape
        mask_OI = layer.mask()
        linear = nn.Linear(
            in_features,
            out_features,
            bias=layer.bias is not None,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
        linear.weight.copy_(torch.where(mask_OI, layer.exact_weight(), 0.0))
        if layer.bias is not None:
            linear.bias.copy_(layer.bias)
        model.set_submodule(name, linear)
        masks[f"{name}.weight"] = mask_OI.cpu()
    return masks
