"""Every example is seen once an epoch, in an order that the seed alone decides."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pst_core.batches import (
    Batch,
    Example,
    collate,
    evaluation_batches,
    tokenize,
    training_batches,
)
from pst_core.data import Row
from tests.pst_core import tiny

PAD = 0
# 103 examples, told apart by their first token; lengths from 1 to 9.
EXAMPLES = [Example((number, *range(1, 1 + number % 9)), number % 2) for number in range(1, 104)]
PER_EPOCH = 11  # batches of 10


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tiny.save_model(tmp_path_factory.mktemp("model"))
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


def epochs(count: int, *, seed: int = 0) -> list[Batch]:
    batches = training_batches(EXAMPLES, batch_size=10, seed=seed, pad_token=PAD)
    return list(islice(batches, count * PER_EPOCH))


def seen(batches: Iterable[Batch]) -> list[int]:
    return [number for batch in batches for number in batch.input_ids[:, 0].tolist()]


def test_an_epoch_sees_every_example_once() -> None:
    assert sorted(seen(epochs(1))) == list(range(1, 104))


def test_every_epoch_sees_every_example_once() -> None:
    assert Counter(seen(epochs(3))) == dict.fromkeys(range(1, 104), 3)


def test_epochs_differ_in_order() -> None:
    order = seen(epochs(2))
    assert order[:103] != order[103:]


def test_the_same_seed_gives_the_same_batches() -> None:
    for one, other in zip(epochs(2, seed=5), epochs(2, seed=5), strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.labels, other.labels)


def test_another_seed_gives_another_order() -> None:
    assert seen(epochs(1, seed=5)) != seen(epochs(1, seed=6))


def test_no_batch_is_larger_than_asked() -> None:
    sizes = Counter(len(batch.labels) for batch in epochs(1))
    assert sizes == {10: 10, 3: 1}


def test_batches_hold_texts_of_like_length() -> None:
    padded = sum(int((batch.attention_mask == 0).sum()) for batch in epochs(1))
    unsorted = [EXAMPLES[start : start + 10] for start in range(0, 103, 10)]
    unsorted_padded = sum(int((collate(e, PAD).attention_mask == 0).sum()) for e in unsorted)
    assert padded * 4 < unsorted_padded


def test_batches_do_not_run_from_short_to_long() -> None:
    lengths = [batch.input_ids.shape[1] for batch in epochs(1)]
    assert lengths != sorted(lengths)


def test_labels_stay_with_their_texts() -> None:
    for batch in epochs(1):
        assert torch.equal(batch.labels, batch.input_ids[:, 0] % 2)


def test_evaluation_sees_every_example_once() -> None:
    batches = evaluation_batches(EXAMPLES, batch_size=10, pad_token=PAD)
    assert sorted(seen(batches)) == list(range(1, 104))


def test_evaluation_begins_with_the_longest() -> None:
    batches = evaluation_batches(EXAMPLES, batch_size=10, pad_token=PAD)
    lengths = [batch.input_ids.shape[1] for batch in batches]
    assert lengths == sorted(lengths, reverse=True)


def test_evaluating_nothing_gives_no_batch() -> None:
    assert not list(evaluation_batches([], batch_size=10, pad_token=PAD))


def test_texts_are_padded_on_the_right_to_the_batchs_longest() -> None:
    batch = collate([Example((5, 6, 7), 1), Example((8,), 0)], pad_token=9)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [1, 0]


def test_a_pad_token_inside_a_text_is_attended_to() -> None:
    assert collate([Example((9, 9), 0)], pad_token=9).attention_mask.tolist() == [[1, 1]]


def test_a_text_becomes_its_tokens_and_its_labels_position(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = [Row("a lovely film", "pos", ""), Row("unheard", "neg", "")]
    words = ("[CLS]", "a", "lovely", "film", "[SEP]")
    assert tokenize(rows, ("neg", "pos"), tokenizer, max_length=16) == [
        Example(tuple(tiny.VOCABULARY[word] for word in words), 1),
        Example(tuple(tiny.VOCABULARY[word] for word in ("[CLS]", "[UNK]", "[SEP]")), 0),
    ]


def test_a_longer_text_is_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    (example,) = tokenize([Row("a " * 50, "x", "")], ("x",), tokenizer, max_length=7)
    assert len(example.tokens) == 7
    assert example.tokens[-1] == tiny.VOCABULARY["[SEP]"]


def test_no_rows_make_no_examples(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenize([], ("x",), tokenizer, max_length=7) == []


def test_a_batch_moves_as_a_whole() -> None:
    moved = collate([Example((5,), 1)], PAD).to(torch.device("meta"))
    assert moved.input_ids.is_meta
    assert moved.attention_mask.is_meta
    assert moved.labels.is_meta
