"""The yardstick `lora`: low-rank adapters beside dense weights (Hu et al. 2021, 2106.09685)."""

from collections.abc import Iterable

import peft
import torch
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pst_core.recipes import Hyperparameters


def add_adapters(model: PreTrainedModel, names: Iterable[str], hyper: Hyperparameters) -> None:
    """Put an adapter beside each named linear layer and freeze everything else."""
    targets = list(names)
    config = peft.LoraConfig(
        r=hyper.rank,
        lora_alpha=2 * hyper.rank,
        lora_dropout=0.0,
        target_modules=targets,
        # GPT-2 stores in × out.
        fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in targets),
    )
    model.requires_grad_(requires_grad=False)
    peft.inject_adapter_in_model(config, model)


@torch.no_grad()
def merge_adapters(model: PreTrainedModel) -> None:
    """Add the adapters to the weights, and leave the plain model it was."""
    adapted = [(n, module) for n, module in model.named_modules() if isinstance(module, LoraLayer)]
    for name, module in adapted:
        module.merge()
        model.set_submodule(name, module.get_base_layer())
    del model.peft_config
