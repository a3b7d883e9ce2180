"""Token sequences become batches: stored flat, bucketed by length, padded to the longest.

How a row becomes tokens is the task's business; reading rows lives in data.py.
"""

import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from pst_core.shuffle import shuffled

BUCKET_BATCHES = 50  # batches sorted by length together; more would fix which rows meet
MEMORY_LIMIT = 64 * 1024 * 1024  # bytes of tokens; beyond it they are mapped from a file
NO_SECOND = -1
# So that the orders and numbers drawn by one seed have nothing in common.
OF_EXAMPLES, OF_BATCHES, OF_PARTNERS, OF_CUTS = 1, 2, 3, 4


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One token sequence.

    Args:
        tokens: Token ids, one dimension.
        target: A class's number, a value or a number of prompt tokens: the task decides.
        second: Where the second segment begins; None without one.
    """

    tokens: NDArray[np.int32]
    target: float
    second: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Examples(Sequence[Example]):
    """N examples in flat arrays, their tokens on disk where there are many.

    Args:
        tokens: Those of all examples, one after the other.
        starts: Where each example begins among them.
        lengths: How many tokens each has.
        targets: What each is to be answered with.
        seconds: Where its second segment begins; NO_SECOND without one.
    """

    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.float64]
    seconds: NDArray[np.int64]

    @classmethod
    def collect(cls, examples: Iterable[Example]) -> "Examples":
        """Store examples as they come; at most MEMORY_LIMIT bytes of tokens stay in memory."""
        lengths, targets, seconds = array("q"), array("d"), array("q")
        # Nameless on disk: it goes with the last mapping, however the process ends.
        with tempfile.SpooledTemporaryFile(MEMORY_LIMIT) as file:
            for example in examples:
                file.write(np.asarray(example.tokens, np.int32).tobytes())
                lengths.append(len(example.tokens))
                targets.append(example.target)
                seconds.append(NO_SECOND if example.second is None else example.second)
            tokens = _stored_tokens(file)
        counts = np.array(lengths, np.int64)
        return cls(
            tokens,
            np.cumsum(counts) - counts,
            counts,
            np.array(targets, np.float64),
            np.array(seconds, np.int64),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        row = range(len(self))[index]
        second = int(self.seconds[row])
        return Example(
            self.tokens_of(row), float(self.targets[row]), None if second == NO_SECOND else second
        )

    def tokens_of(self, row: int) -> NDArray[np.int32]:
        start = self.starts[row]
        return self.tokens[start : start + self.lengths[row]]


def _stored_tokens(file: tempfile.SpooledTemporaryFile[bytes]) -> NDArray[np.int32]:
    size = file.tell()
    file.seek(0)
    if size <= MEMORY_LIMIT:
        return np.frombuffer(file.read(), np.int32)
    # As a plain array: slices of NumPy's memmap class are many times slower to make.
    return np.asarray(np.memmap(file, np.int32, mode="r"))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B examples of up to T tokens.

    Args:
        input_ids: Token ids, B×T, padded on the right.
        attention_mask: 1 for a token, 0 for padding, B×T.
        token_type_ids: 1 in the second segment, else 0, B×T; None where the model takes none.
        targets: float64, B.
        rows: The position of each among the examples, B.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None
    targets: Tensor
    rows: Tensor

    def inputs(self) -> dict[str, Tensor]:
        """What a model is called with."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self.token_type_ids
        return inputs

    def split(self, shares: int) -> Iterator["Batch"]:
        """The batch in so many parts, as equal as can be; fewer where it has fewer examples."""
        types = self.token_type_ids
        for rows in torch.arange(len(self.rows)).tensor_split(min(shares, len(self.rows))):
            yield Batch(
                self.input_ids[rows],
                self.attention_mask[rows],
                None if types is None else types[rows],
                self.targets[rows],
                self.rows[rows],
            )

    def to(self, device: torch.device) -> "Batch":
        types = self.token_type_ids
        return Batch(
            _move(self.input_ids, device),
            _move(self.attention_mask, device),
            None if types is None else _move(types, device),
            _move(self.targets, device),
            _move(self.rows, device),
        )


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        # Only out of pinned memory does the copy run beside the computation.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True, kw_only=True, slots=True)
class Collator:
    """Makes batches for one model.

    Args:
        pad_token: The token to pad with.
        token_types: Whether the model takes ``token_type_ids``.
    """

    pad_token: int
    token_types: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> "Collator":
        # A model without embeddings for them (GPT-2) would add those of the words 0 and 1.
        has_types = getattr(config, "type_vocab_size", 0) > 1
        return cls(
            pad_token=tokenizer.pad_token_id or 0,
            token_types=has_types and "token_type_ids" in tokenizer.model_input_names,
        )

    def __call__(self, examples: Examples, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        rows_B = np.array(rows, np.int64)
        lengths_B1 = examples.lengths[rows_B, None]
        positions_T = np.arange(lengths_B1.max())
        is_token_BT = positions_T < lengths_B1
        ids_BT = np.full(is_token_BT.shape, self.pad_token, np.int64)
        # Row by row, its tokens lie side by side: both here and where they are stored.
        ids_BT[is_token_BT] = np.concatenate([examples.tokens_of(row) for row in rows_B])
        types_BT = None
        if self.token_types:
            seconds_B1 = examples.seconds[rows_B, None]
            in_second_BT = (positions_T >= seconds_B1) & (seconds_B1 != NO_SECOND)
            types_BT = torch.from_numpy((in_second_BT & is_token_BT).astype(np.int64))
        return Batch(
            torch.from_numpy(ids_BT),
            torch.from_numpy(is_token_BT.astype(np.int64)),
            types_BT,
            torch.from_numpy(examples.targets[rows_B]),
            torch.from_numpy(rows_B),
        )


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    collate: Collator,
    start: int = 0,
    rows_of: Callable[[int], NDArray[np.int64]] | None = None,
) -> Iterator[Batch]:
    """Batches without end, epoch after epoch; the order depends on the seed alone.

    Args:
        examples: One at least.
        batch_size: B; an epoch's last examples make one smaller batch.
        seed: Of the order.
        collate: What makes a batch of its rows.
        start: How many batches to leave out, as consumed before; they are not made again.
        rows_of: The rows that an epoch has, as many in each; None: all.
    """
    if not examples:
        raise ValueError("there are no examples to make batches of")
    rows_of = rows_of or (lambda _: np.arange(len(examples)))
    epoch, done = divmod(start, -(-len(rows_of(0)) // batch_size))
    while True:
        rows = rows_of(epoch)
        batches = epoch_rows(examples.lengths[rows], batch_size, (seed, epoch))
        for batch in batches[done:]:
            yield collate(examples, rows[batch])
        epoch, done = epoch + 1, 0


def epoch_rows(
    lengths: NDArray[np.int64], batch_size: int, seeds: tuple[int, int]
) -> list[NDArray[np.int64]]:
    """The rows of each batch of one epoch, by their lengths.

    The examples are shuffled, sorted by length within windows of some batches (padding costs more
    than anything else on the CPU), and the batches shuffled again.
    """
    order = shuffled(len(lengths), *seeds, OF_EXAMPLES)
    windows = np.arange(len(order)) // (batch_size * BUCKET_BATCHES)
    order = order[np.lexsort((lengths[order], windows))]
    begins = range(0, len(order), batch_size)
    return [
        order[begins[batch] : begins[batch] + batch_size]
        for batch in shuffled(len(begins), *seeds, OF_BATCHES)
    ]


def evaluation_batches(
    examples: Examples, *, batch_size: int, collate: Collator
) -> Iterator[Batch]:
    """Every example once, the long ones first."""
    order = np.argsort(-examples.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield collate(examples, order[start : start + batch_size])
