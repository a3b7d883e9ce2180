"""From a plain model to one with sparse layers, and back to a plain one that holds the zeros.

Which matrices those are is architectures.py's, how they are scored criteria.py's and layers.py's.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pst_core.architectures import Prunable, survey
from pst_core.criteria import CRITERIA, Matrix
from pst_core.errors import UnsupportedModelError
from pst_core.factors import Factors
from pst_core.layers import PSTLinear, SparseLinear
from pst_core.masks import NOfM, kth_smallest, prune_count
from pst_core.recipes import Hyperparameters
from pst_core.report import PrunedMatrix
from pst_core.spec import Method, Scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """How a model is pruned.

    Args:
        method: A key of `CRITERIA`.
        scope: Whether each logical matrix has the sparsity asked for, or all of them together.
        pattern: N of every M entries of a row are kept, or None.
        include: As `survey` takes it.
        exclude: As `survey` takes it.
    """

    method: Method
    scope: Scope = "matrix"
    pattern: NOfM | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Converted:
    """The sparse layers of a model, by module name.

    Args:
        layers: In the model's order.
        transposed: Those whose weight the model stores as in × out (GPT-2).
        skipped: Why other layers with matrices are not among them.
        scope: Whether a sparsity is each logical matrix's or that of all together.
    """

    layers: Mapping[str, SparseLinear]
    transposed: frozenset[str] = frozenset()
    skipped: Mapping[str, str] = field(default_factory=dict)
    scope: Scope = "matrix"

    def set_sparsity(self, sparsity: float) -> None:
        """Have the next forward prune this share of each logical matrix, or of all together."""
        # One threshold over all layers needs all their scores at once, and waits for the device.
        if self.scope == "global" and self.layers and sparsity > 0:
            _allocate(list(self.layers.values()), sparsity)
            return
        for layer in self.layers.values():
            layer.sparsity = sparsity

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Score the model with the masks of this moment, each selected once, not at each forward.

        Meanwhile all the masked weights are held at once.
        """
        with ExitStack() as stack:
            for layer in self.layers.values():
                stack.enter_context(layer.frozen())
            yield


def convert(model: PreTrainedModel, pruning: Pruning, hyper: Hyperparameters) -> Converted:
    """Put a sparse layer in the place of every matrix to prune; what trains is not touched.

    Raises:
        UnsupportedModelError: There is nothing to prune, it has been done already, or the pattern
            does not fit a matrix.
    """
    found = survey(model, include=pruning.include, exclude=pruning.exclude)
    criterion = CRITERIA[pruning.method]
    deviation = _deviation(found.prunable.values()) if hyper.relative else 1.0
    # All of them first: a model with a matrix that does not fit is left as it was.
    layers = {
        name: criterion(_matrix(name, prunable, pruning, deviation), hyper)
        for name, prunable in found.prunable.items()
    }
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    transposed = frozenset(
        name for name, prunable in found.prunable.items() if isinstance(prunable.module, Conv1D)
    )
    return Converted(layers, transposed, found.skipped, pruning.scope)


def _deviation(prunable: Collection[Prunable]) -> float:
    """The standard deviation of all entries together, about each matrix's own mean."""
    weights = [each.module.weight.detach() for each in prunable]
    squares = sum(float(weight.float().var(correction=0)) * weight.numel() for weight in weights)
    return math.sqrt(squares / sum(weight.numel() for weight in weights))


def _matrix(name: str, prunable: Prunable, pruning: Pruning, deviation: float) -> Matrix:
    module, pattern = prunable.module, pruning.pattern
    # GPT-2 stores in × out.
    weight_OI = module.weight.T.contiguous() if isinstance(module, Conv1D) else module.weight
    columns = weight_OI.shape[1]
    if pattern and columns % pattern.m:
        raise UnsupportedModelError(
            f"{name} has {columns} input features, which {pattern.m} does not divide.",
            field="pattern",
            remedy=f"Add {name} to exclude, or choose another pattern.",
        )
    # One threshold over all matrices leaves none for the parts of one.
    parts = prunable.parts if pruning.scope == "matrix" else (weight_OI.shape[0],)
    return Matrix(
        weight_OI=weight_OI,
        deviation=deviation,
        bias_O=module.bias,
        parts=parts,
        pattern=pattern,
    )


@torch.no_grad()
def _allocate(layers: Sequence[SparseLinear], sparsity: float) -> None:
    """Give each layer the share of entries that one threshold over all layers prunes in it.

    Of equal scores those of earlier layers go first.
    """
    # All at once: a threshold over them cannot be found layer by layer.
    scores = [layer.score().flatten() for layer in layers]
    sizes = [score.numel() for score in scores]
    count = prune_count(sparsity, sum(sizes))
    if count == 0:
        counts = [0] * len(layers)
    else:
        pooled = torch.cat(scores)
        threshold = kth_smallest(pooled, count)
        below = torch.stack([(score < threshold).sum() for score in scores])
        ties = torch.stack([(score == threshold).sum() for score in scores])
        # What the layers before leave of the ties that go.
        left = count - below.sum() - (ties.cumsum(0) - ties)
        # At once: each number asked for by itself would wait for a GPU.
        counts = (below + torch.minimum(ties, left.clamp(min=0))).tolist()
    for layer, size, pruned in zip(layers, sizes, counts, strict=True):
        # Half an entry more, lest rounding loses one.
        layer.sparsity = min((pruned + 0.5) / size, 1.0) if pruned else 0.0


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


def drawn_tensors(
    model: PreTrainedModel, converted: Converted, *, new_head: bool
) -> dict[str, Tensor]:
    """What starts at random and may not train, by name: a new head, and scores that stay."""
    head = head_parameters(model) if new_head else {}
    scores = {
        f"{name}.{buffer}": scores
        for name, layer in converted.layers.items()
        for buffer, scores in layer.named_buffers()
    }
    return {name: tensor.detach() for name, tensor in {**head, **scores}.items()}


def trained_factors(converted: Converted) -> dict[str, Factors]:
    """The factors of each weight that stayed frozen (method `pst`), as it is stored, on the CPU.

    By the weight's key in the state dict.
    """
    found = {}
    for name, layer in converted.layers.items():
        if isinstance(layer, PSTLinear):
            factors = layer.factors()
            stored = factors.transposed() if name in converted.transposed else factors
            found[f"{name}.weight"] = Factors(stored.U.cpu(), stored.V.cpu(), stored.beta)
    return found


@torch.no_grad()
def materialize(
    model: PreTrainedModel, converted: Converted
) -> tuple[dict[str, Tensor], tuple[PrunedMatrix, ...]]:
    """Put plain layers that hold M ⊙ W' in the place of the sparse ones.

    Returns:
        The mask of each pruned weight (in its stored shape, on the CPU), by its key in the state
        dict; and a description of each.
    """
    masks, matrices = {}, []
    for name, layer in converted.layers.items():
        conv1d = name in converted.transposed
        mask_OI = layer.mask()
        plain = _plain(layer, mask_OI, conv1d=conv1d)
        model.set_submodule(name, plain)
        stored = mask_OI.T.contiguous() if conv1d else mask_OI
        key = f"{name}.weight"
        masks[key] = stored.cpu()
        matrices.append(
            PrunedMatrix(
                name=key,
                shape=(stored.shape[0], stored.shape[1]),
                pruned=mask_OI.numel() - int(mask_OI.count_nonzero()),
                parts=layer.selector.parts,
                output_axis=1 if conv1d else 0,
            )
        )
    return masks, tuple(matrices)


def _plain(layer: SparseLinear, mask_OI: Tensor, *, conv1d: bool) -> nn.Linear | Conv1D:
    pruned_OI = torch.where(mask_OI, layer.exact_weight(), 0.0)
    out_features, in_features = pruned_OI.shape
    # Its own weights, which are replaced, would cost memory and draw random numbers.
    with torch.device("meta"):
        if conv1d:
            plain: nn.Linear | Conv1D = Conv1D(out_features, in_features)
        else:
            plain = nn.Linear(in_features, out_features, bias=layer.bias is not None)
    plain.weight = nn.Parameter(pruned_OI.T.contiguous() if conv1d else pruned_OI)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach())
    return plain
