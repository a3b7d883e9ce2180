"""Compares what two models answer, where their weights cannot be."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pst_core.batches import Batch
from pst_core.errors import CheckpointCorruptError

# Of the largest logit, a share: kernels sum in another order, and deep models carry that on.
TOLERANCE = 1e-3


@torch.inference_mode()
def compare_answers(
    folder: Path, other: PreTrainedModel, model: PreTrainedModel, batches: Iterable[Batch]
) -> float:
    """Hold a checkpoint to the answers of the model that it was made from.

    Args:
        folder: The checkpoint, for the message of an error.
        other: As loaded from there.
        model: What it was made from, in float32; both are left in evaluation mode.
        batches: On the CPU; best of several lengths, with padding.

    Returns:
        The largest difference of two logits, as a share of the largest logit. Those of padding are
        left out.

    Raises:
        CheckpointCorruptError: It is over TOLERANCE.
    """
    differences, sizes = [], []
    for batch in batches:
        expected, found = (_answers(each.eval(), batch) for each in (model, other))
        differences.append((found - expected).abs().max())
        sizes.append(expected.abs().max())
    difference, largest = (float(torch.stack(each).max()) for each in (differences, sizes))
    # Written so that NaN is not let through.
    if not difference <= TOLERANCE * largest:
        raise CheckpointCorruptError(
            f"{folder} answers otherwise than the model it was made from: of logits up to "
            f"{largest:.3g} some differ by {difference:.2g}."
        )
    return difference / largest if largest else 0.0


def _answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    logits: Tensor = model(**batch.to(model.device).inputs()).logits.float().cpu()
    # A language model has some for each token.
    is_of_tokens = logits.shape[:-1] == batch.input_ids.shape
    return logits[batch.attention_mask.bool()] if is_of_tokens else logits
