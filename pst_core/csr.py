"""Linear layers that multiply with compressed sparse rows, as PyTorch has them.

To measure what zeros are worth there; nothing is trained or stored in this form.
"""

import copy
import warnings
from collections.abc import Collection

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


class CsrLinear(nn.Module):
    """y = x Wᵀ + b, of whose W only what is not zero is there.

    Args:
        weight_OI: Dense.
        bias: O; None without one.
    """

    def __init__(self, weight_OI: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        with warnings.catch_warnings(action="ignore"):  # that the format is in beta
            self.weight = weight_OI.to_sparse_csr()
        self.bias_O1 = None if bias is None else bias[:, None]

    def forward(self, x: Tensor) -> Tensor:
        # The sparse matrix stands on the left: of all ways the fastest.
        x_IN = x.reshape(-1, x.shape[-1]).T
        if self.bias_O1 is None:
            y_ON = self.weight @ x_IN
        else:
            y_ON = torch.addmm(self.bias_O1, self.weight, x_IN)
        return y_ON.T.reshape(*x.shape[:-1], -1)


@torch.no_grad()
def with_csr(model: PreTrainedModel, pruned: Collection[str]) -> PreTrainedModel:
    """A copy whose pruned layers are sparse; all other weights are shared with the model.

    Args:
        model: Plain linear layers only; it is left as it is.
        pruned: The names of the pruned weights, as in the state dict.
    """
    names = {name.removesuffix(".weight") for name in pruned}
    stays = [*model.parameters(), *model.buffers()]
    sparse = copy.deepcopy(model, {id(tensor): tensor for tensor in stays})
    for name in names:
        module = model.get_submodule(name)
        weight, bias = module.get_parameter("weight"), getattr(module, "bias", None)
        weight_OI = weight.T if isinstance(module, Conv1D) else weight
        sparse.set_submodule(name, CsrLinear(weight_OI, bias))
    return sparse
