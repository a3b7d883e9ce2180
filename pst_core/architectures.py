"""Which matrices of an architecture are pruned: those of its blocks, by name where it is known.

Only looks: layers are put in place by convert.py.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pst_core.errors import UnsupportedModelError
from pst_core.families import FAMILIES
from pst_core.layers import SparseLinear


@dataclass(frozen=True, slots=True)
class Prunable:
    """A linear layer to prune, and the rows of each logical matrix in it (fused: several)."""

    module: nn.Linear | Conv1D
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a model has, by module name: what will be pruned, and why what else will not."""

    prunable: Mapping[str, Prunable]
    skipped: Mapping[str, str]


# Linear layers that hold several matrices, one below the other. Those of GPT-NeoX, BLOOM and Falcon
# hold query, key and value head by head, and are pruned as the one matrix they are stored as.
QUERY_KEY_VALUE = ("c_attn", "qkv_proj", "Wqkv")
GATE_AND_UP = ("gate_up_proj", "Wi")


# Where a block stands in its stack; tables name the matrices of every block at once.
_BLOCK_NUMBER = re.compile(r"\.\d+\.")


def survey(
    model: PreTrainedModel, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Survey:
    """Find the matrices to prune.

    For a known family they are its table's, each of which must be there. Otherwise they are all
    linear layers inside the blocks, the entries of a ``ModuleList`` of the base model.

    Args:
        model: As loaded, with its task head.
        include: Patterns (``*.mlp.*``) of module names; where there are any, one must match.
        exclude: Patterns of module names that are left alone.

    Raises:
        UnsupportedModelError: There is nothing to prune, a pattern matches nothing, the model has
            been converted already, or it lacks matrices that its family has.
    """
    # Its linear layers are gone: what is left would be pruned by mistake.
    if any(isinstance(module, SparseLinear) for module in model.modules()):
        raise UnsupportedModelError(
            "The model has been converted already.", field="model", remedy="Load it afresh."
        )
    linears, tied = _block_linears(model), _tied_names(model)
    if linears:
        _refuse_idle_patterns(linears, {"include": include, "exclude": exclude})
    prunable, skipped = {}, {}
    for name, module in linears.items():
        # Zeros in one place would be zeros in the other.
        if f"{name}.weight" in tied:
            skipped[name] = "its weight is tied to another layer's"
        elif include and not _matches(name, include):
            skipped[name] = "no pattern of include matches"
        elif _matches(name, exclude):
            skipped[name] = "a pattern of exclude matches"
        else:
            prunable[name] = Prunable(module, _parts(model.config, name, module))
    if not prunable:
        patterns = "include" if include else "exclude"
        raise UnsupportedModelError(
            f"{type(model).__name__} has no linear layers in its blocks that may be pruned.",
            field=patterns if skipped and (include or exclude) else "model",
            remedy="Use a transformer such as BERT, RoBERTa, GPT-2 or Llama, "
            "and patterns that leave some of its layers.",
        )
    return Survey(prunable, skipped | _others(model, linears))


def _refuse_idle_patterns(linears: Iterable[str], patterns: Mapping[str, Sequence[str]]) -> None:
    for field, given in patterns.items():
        for pattern in given:
            if not any(fnmatchcase(name, pattern) for name in linears):
                raise UnsupportedModelError(
                    f"The pattern {pattern!r} matches no linear layer of the blocks.",
                    field=field,
                    remedy=f"They are called like {next(iter(linears))}.",
                )


def _block_linears(model: PreTrainedModel) -> dict[str, nn.Linear | Conv1D]:
    base, kind = model.base_model, model.config.model_type
    prefix = f"{model.base_model_prefix}." if base is not model else ""
    modules = dict(base.named_modules())
    linears = {n: module for n, module in modules.items() if isinstance(module, nn.Linear | Conv1D)}
    if kind in FAMILIES:
        places = {name: _BLOCK_NUMBER.sub(".*.", name) for name in linears}
        if lacking := [place for place in FAMILIES[kind] if place not in places.values()]:
            raise UnsupportedModelError(
                f"{type(model).__name__} has no linear layer {lacking[0]}, as a {kind} should.",
                field="model",
            )
        inside = [name for name, place in places.items() if place in FAMILIES[kind]]
    else:
        stacks = tuple(
            f"{n}." for n, module in modules.items() if isinstance(module, nn.ModuleList)
        )
        inside = [name for name in linears if name.startswith(stacks)]
    return {prefix + name: linears[name] for name in inside}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _tied_names(model: PreTrainedModel) -> set[str]:
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return {name for same in names.values() if len(same) > 1 for name in same}


def _others(model: PreTrainedModel, linears: Mapping[str, nn.Module]) -> dict[str, str]:
    """What else has matrices: embeddings, pooler, head, experts held as one parameter."""
    others = {}
    # A tied weight is looked at under each of its names.
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = name.rpartition(".")[0]
        if parameter.ndim > 1 and owner not in linears:
            kind = type(model.get_submodule(owner)).__name__
            others[owner] = f"{kind}: not one of the blocks' linear layers"
    return others


def _parts(config: PreTrainedConfig, name: str, module: nn.Linear | Conv1D) -> tuple[int, ...]:
    """The rows of each logical matrix where several are fused one after the other."""
    rows = module.nf if isinstance(module, Conv1D) else module.out_features
    leaf = name.rpartition(".")[2]
    if leaf in GATE_AND_UP and rows % 2 == 0:
        return (rows // 2, rows // 2)
    heads = getattr(config, "num_attention_heads", None)
    # GPT-BigCode calls a matrix as GPT-2 does, and fills it otherwise.
    if leaf in QUERY_KEY_VALUE and heads and config.model_type != "gpt_bigcode":
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        shared = getattr(config, "num_key_value_heads", None) or heads
        parts = (heads * size, shared * size, shared * size)
        if sum(parts) == rows:
            return parts
    return (rows,)
