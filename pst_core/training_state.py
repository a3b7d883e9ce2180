"""What a training run is between two steps, as plain numbers and tensors by name.

When it is kept is the trainer's business, and where resume.py's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from pst_core.errors import SnapshotError
from pst_core.fields import Count, Strict
from pst_core.random_state import RandomNumbers


class TrainingNumbers(Strict):
    step: Count
    """The last one done."""
    is_over: bool
    """Nothing is left to train: the parameters are those to go on with."""
    seconds: float
    step_seconds: tuple[float, ...]
    best_score: float | None
    """Of the validations so far; null: there was none."""
    misses: Count
    """Validations since the best one."""
    peak_memory_bytes: Count
    random: RandomNumbers


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """A run between two steps.

    Args:
        numbers: All that is no tensor.
        tensors: `parameters` by name, `optimizer` by name and what it is, `random` by device and,
            where the best of a run is kept, `best` by name. They may be those that train.
    """

    numbers: TrainingNumbers
    tensors: dict[str, Mapping[str, Tensor]]


def names_of(model: PreTrainedModel, parameters: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    """Some parameters of a model by their name, in the order in which they are given."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: parameter.detach() for parameter in parameters}


@torch.no_grad()
def restore_parameters(parameters: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Write what was kept into tensors of the same names.

    Raises:
        SnapshotError: The names or shapes are others; no tensor is changed then.
    """
    found, asked = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (kept, parameters)
    )
    if found != asked:
        name = min(name for name, _ in found.items() ^ asked.items())
        raise SnapshotError(
            f"The snapshot was made of another model: {name} has shape {found.get(name)} there, "
            f"and {asked.get(name)} here.",
            remedy="Use the versions it was made with, or start anew in an empty folder.",
        )
    for name, parameter in parameters.items():
        parameter.copy_(kept[name])


def optimizer_tensors(optimizer: Optimizer, names: Iterable[str]) -> dict[str, Tensor]:
    """What an optimizer holds of each parameter, by the parameter's name and its own.

    Args:
        optimizer: Of parameters in some order.
        names: Theirs, in that order.
    """
    states = optimizer.state_dict()["state"]
    return {
        f"{name}:{key}": value
        for index, name in enumerate(names)
        for key, value in states.get(index, {}).items()
    }


def restore_optimizer(
    optimizer: Optimizer, names: Iterable[str], kept: Mapping[str, Tensor]
) -> None:
    """Give an optimizer what `optimizer_tensors` found in another."""
    indices = {name: index for index, name in enumerate(names)}
    states: dict[int, dict[str, Tensor]] = {}
    for label, value in kept.items():
        name, _, key = label.rpartition(":")
        states.setdefault(indices[name], {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
