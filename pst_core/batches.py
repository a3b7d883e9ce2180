"""Rows become token batches: tokenized once, padded to the batch's longest, bucketed by length.

Reading and splitting rows lives in data.py.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pst_core.data import Row

BUCKET_BATCHES = 50  # batches sorted by length together; more would fix which rows meet


@dataclass(frozen=True, slots=True)
class Example:
    tokens: tuple[int, ...]
    label: int


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples of up to T tokens: token ids and attention mask B×T, class numbers B."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device)
        )


def tokenize(
    rows: Sequence[Row],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
) -> list[Example]:
    if not rows:
        return []
    numbers = {label: number for number, label in enumerate(labels)}
    encoded = tokenizer(
        [row.text for row in rows], truncation=True, max_length=max_length, padding=False
    )
    return [
        Example(tuple(tokens), numbers[row.label])
        for row, tokens in zip(rows, encoded["input_ids"], strict=True)
    ]


def training_batches(
    examples: Sequence[Example], *, batch_size: int, seed: int, pad_token: int
) -> Iterator[Batch]:
    """Batches without end, epoch after epoch; the order depends on the seed alone.

    Each epoch is shuffled, sorted by length within windows of some batches (padding costs more than
    anything else on the CPU), and the batches shuffled again.
    """
    generator = random.Random(seed)
    while True:
        order = list(range(len(examples)))
        generator.shuffle(order)
        window = batch_size * BUCKET_BATCHES
        chunks: list[list[int]] = []
        for start in range(0, len(order), window):
            bucket = sorted(
                order[start : start + window], key=lambda index: len(examples[index].tokens)
            )
            chunks += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
        generator.shuffle(chunks)
        for chunk in chunks:
            yield collate([examples[index] for index in chunk], pad_token)


def evaluation_batches(
    examples: Sequence[Example], *, batch_size: int, pad_token: int
) -> Iterator[Batch]:
    """Every example once, the long ones first."""
    order = sorted(examples, key=lambda example: len(example.tokens), reverse=True)
    for start in range(0, len(order), batch_size):
        yield collate(order[start : start + batch_size], pad_token)


def collate(examples: Sequence[Example], pad_token: int) -> Batch:
    longest = max(len(example.tokens) for example in examples)
    input_ids = torch.full((len(examples), longest), pad_token)
    attention_mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for index, example in enumerate(examples):
        input_ids[index, : len(example.tokens)] = torch.tensor(example.tokens)
        attention_mask[index, : len(example.tokens)] = 1
    return Batch(input_ids, attention_mask, torch.tensor([example.label for example in examples]))
