"""Which parameters of a model train under which method, and at which rates."""

from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel

from pst_core.convert import Converted, head_parameters
from pst_core.layers import PSTLinear, SparseLinear
from pst_core.recipes import Hyperparameters
from pst_core.schedule import learning_rate_factor
from pst_core.trainer import ParameterGroup


def full_groups(
    model: PreTrainedModel,
    converted: Converted,
    hyper: Hyperparameters,
    *,
    new_head: bool,
    total_steps: int,
) -> list[ParameterGroup]:
    """Every weight trains (methods `dense`, `magnitude`, `movement`, `random`).

    Args:
        model: Plain, or with layers whose whole weight trains.
        converted: Its sparse layers, if any; scores of their own train at their own rate.
        hyper: The recipe.
        new_head: Whether the head starts at random, and so trains at a rate of its own.
        total_steps: Optimizer steps to come.
    """
    model.requires_grad_(requires_grad=True)
    scores = [
        layer.get_parameter("S") for layer in converted.layers.values() if _trains_score(layer)
    ]
    head = list(head_parameters(model).values()) if new_head else []
    # By identity: == of two tensors compares their entries.
    taken = {id(parameter) for parameter in (*scores, *head)}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    return _groups(
        (rest, hyper.dense_learning_rate),
        (scores, score_rate(hyper, total_steps)),
        (head, hyper.head_learning_rate),
    )


def factor_groups(
    model: PreTrainedModel,
    converted: Converted,
    hyper: Hyperparameters,
    *,
    new_head: bool,
    total_steps: int,
) -> list[ParameterGroup]:
    """The six factors train; as the recipe says, so do head, biases and norms (method `pst`).

    Args:
        model: With PST layers.
        converted: Those layers.
        hyper: The recipe.
        new_head: Whether the head starts at random.
        total_steps: Optimizer steps to come.
    """
    model.requires_grad_(requires_grad=False)
    layers = [layer for layer in converted.layers.values() if isinstance(layer, PSTLinear)]
    scores = [factor for layer in layers for factor in (layer.A, layer.B, layer.R, layer.C)]
    head = list(head_parameters(model).values())
    # The head's biases train with the head or not at all.
    vectors = biases_and_norms(model, (*scores, *head)) if hyper.train_biases_and_norms else []
    fastest = score_rate(hyper, total_steps)
    # The first group's rate is the one that is reported.
    groups = _groups(
        ([layer.V for layer in layers], hyper.learning_rate),
        ([layer.U for layer in layers], hyper.learning_rate / hyper.rate_ratio),
        ([f for layer in layers for f in (layer.B, layer.R, layer.C)], fastest),
        ([layer.A for layer in layers], fastest / hyper.rate_ratio),
        (head if new_head and hyper.train_head else [], hyper.head_learning_rate),
        (vectors, hyper.norm_learning_rate),
    )
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad = True
    return groups


def adapter_groups(
    model: PreTrainedModel, hyper: Hyperparameters, *, new_head: bool
) -> list[ParameterGroup]:
    """What peft made trainable, and the head where it starts at random (method `lora`)."""
    head = list(head_parameters(model).values()) if new_head else []
    for parameter in head:
        parameter.requires_grad = True
    taken = {id(parameter) for parameter in head}
    adapters = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    return _groups((adapters, hyper.adapter_learning_rate), (head, hyper.head_learning_rate))


def biases_and_norms(model: PreTrainedModel, others: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The vectors of a model but the ones given: R and C are vectors too."""
    taken = {id(parameter) for parameter in others}
    return [p for p in model.parameters() if p.ndim == 1 and id(p) not in taken]


def score_rate(hyper: Hyperparameters, total_steps: int) -> float:
    """The highest rate of the scores: less than asked for if all steps' would sum to too much."""
    if hyper.score_travel is None:
        return hyper.score_learning_rate
    factors = (
        learning_rate_factor(
            step,
            total_steps,
            warmup=hyper.learning_rate_warmup,
            decay=hyper.learning_rate_decay,
        )
        for step in range(1, total_steps + 1)
    )
    return min(hyper.score_learning_rate, hyper.score_travel / sum(factors))


def _trains_score(layer: SparseLinear) -> bool:
    return isinstance(getattr(layer, "S", None), nn.Parameter)


def _groups(*groups: tuple[list[nn.Parameter], float]) -> list[ParameterGroup]:
    return [ParameterGroup(parameters, rate) for parameters, rate in groups if parameters]
