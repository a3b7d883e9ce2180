"""The task metric of a model on examples. Nothing here trains or changes the model."""

from collections import Counter
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from pst_core.batches import Example, evaluation_batches
from pst_core.report import Accuracy

BATCH_SIZE = 64


@torch.inference_mode()
def accuracy(model: PreTrainedModel, examples: Sequence[Example], *, pad_token: int) -> Accuracy:
    """How many of the examples the model classifies right, in float32 and without dropout."""
    was_training = model.training
    model.eval()
    correct = 0
    for host_batch in evaluation_batches(examples, batch_size=BATCH_SIZE, pad_token=pad_token):
        batch = host_batch.to(model.device)
        logits_BC = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        correct += int((logits_BC.argmax(-1) == batch.labels).sum())
    model.train(was_training)
    most = Counter(example.label for example in examples).most_common(1)[0][1]
    return Accuracy.of(correct=correct, total=len(examples), majority=most / len(examples))
