"""Every example is seen once an epoch, in an order that the seed and the position decide."""

import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core import batches
from pst_core.batches import (
    Batch,
    Collator,
    Example,
    Examples,
    evaluation_batches,
    training_batches,
)

PAD = 0
COLLATE = Collator(pad_token=PAD, token_types=False)
COLLATE_PAIRS = Collator(pad_token=PAD, token_types=True)
PER_EPOCH = 11  # batches of 10


def example(tokens: Iterable[int], target: float = 0.0, second: int | None = None) -> Example:
    return Example(np.fromiter(tokens, np.int32), target, second)


def of_lengths(lengths: Iterable[int]) -> Examples:
    """Each example's target is its own position."""
    return Examples.collect(
        example(range(1, 1 + length), row) for row, length in enumerate(lengths)
    )


# Lengths from 1 to 9.
EXAMPLES = of_lengths(1 + row % 9 for row in range(103))


def plain(items: Iterable[Example]) -> list[tuple[list[int], float, int | None]]:
    return [(item.tokens.tolist(), item.target, item.second) for item in items]


def training(*, seed: int = 0, start: int = 0, examples: Examples = EXAMPLES) -> Iterator[Batch]:
    return training_batches(examples, batch_size=10, seed=seed, collate=COLLATE, start=start)


def epochs(count: int, *, seed: int = 0) -> list[Batch]:
    return list(islice(training(seed=seed), count * PER_EPOCH))


def seen(made: Iterable[Batch]) -> list[int]:
    return [row for batch in made for row in batch.rows.tolist()]


def padding(made: Iterable[Batch]) -> float:
    """Share of padding."""
    masks = [batch.attention_mask for batch in made]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def collate(*items: Example, collator: Collator = COLLATE) -> Batch:
    return collator(Examples.collect(items), range(len(items)))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 5), st.integers(0, 2**31 - 1))
def test_an_epoch_sees_every_example_once(count: int, size: int, epoch: int, seed: int) -> None:
    per_epoch = -(-count // size)
    made = training_batches(
        of_lengths([3] * count),
        batch_size=size,
        seed=seed,
        collate=COLLATE,
        start=epoch * per_epoch,
    )
    assert sorted(seen(islice(made, per_epoch))) == list(range(count))


@settings(deadline=None)
@given(st.integers(0, 4 * PER_EPOCH))
def test_from_any_position_training_goes_on_as_if_undisturbed(start: int) -> None:
    undisturbed = islice(training(), start, start + PER_EPOCH)
    assert seen(islice(training(start=start), PER_EPOCH)) == seen(undisturbed)


@settings(deadline=None)
@given(st.integers(0, 18))
def test_an_epoch_can_have_rows_of_its_own(start: int) -> None:
    def made(start: int) -> list[Batch]:
        # 25 of a hundred rows in each epoch: three batches.
        batches = training_batches(
            EXAMPLES,
            batch_size=10,
            seed=0,
            collate=COLLATE,
            start=start,
            rows_of=lambda epoch: np.arange(25) + 25 * (epoch % 4),
        )
        return list(islice(batches, 21 - start))

    undisturbed = made(0)
    for epoch in range(7):
        rows = seen(undisturbed[3 * epoch : 3 * epoch + 3])
        assert sorted(rows) == [row + 25 * (epoch % 4) for row in range(25)]
    assert seen(made(start)) == seen(undisturbed[start:])


def test_going_on_makes_no_batch_of_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffles: list[tuple[int, ...]] = []

    def counted(count: int, *seeds: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        shuffles.append(seeds)
        return np.arange(count)

    monkeypatch.setattr(batches, "shuffled", counted)
    next(training(seed=5, start=1000 * PER_EPOCH + 3))
    assert {seeds[:2] for seeds in shuffles} == {(5, 1000)}


def test_epochs_differ_in_order() -> None:
    order = seen(epochs(2))
    assert order[:103] != order[103:]


def test_another_seed_gives_another_order() -> None:
    assert seen(epochs(1, seed=5)) != seen(epochs(1, seed=6))


def test_an_epoch_of_one_seed_is_not_that_of_the_next_seed() -> None:
    order = seen(epochs(2, seed=5))
    assert order[103:] != seen(epochs(1, seed=6))


def test_no_batch_is_larger_than_asked() -> None:
    assert Counter(len(batch.targets) for batch in epochs(1)) == {10: 10, 3: 1}


def test_training_on_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        next(training(examples=Examples.collect([])))


def test_batches_of_like_length_hold_far_less_padding() -> None:
    # Most are short and a few long, as texts are.
    generator = np.random.default_rng(0)
    examples = of_lengths(1 + generator.zipf(1.6, 1000).clip(max=300))
    bucketed = list(islice(training(examples=examples), 100))
    shuffled = [COLLATE(examples, rows) for rows in np.split(generator.permutation(1000), 100)]
    assert padding(bucketed) < 0.3
    assert padding(shuffled) > 0.7


def test_batches_do_not_run_from_short_to_long() -> None:
    lengths = [batch.input_ids.shape[1] for batch in epochs(1)]
    assert lengths != sorted(lengths)


def test_which_examples_meet_changes_from_epoch_to_epoch() -> None:
    # Enough for two windows, so that not length alone decides.
    examples = of_lengths([3, 5] * 600)
    first, second = (
        {
            frozenset(batch.rows.tolist())
            for batch in islice(training(examples=examples), a, a + 120)
        }
        for a in (0, 120)
    )
    assert not first & second


def test_a_batch_holds_the_examples_that_its_rows_name() -> None:
    for batch in epochs(1):
        for row, ids, mask in zip(
            batch.rows.tolist(), batch.input_ids, batch.attention_mask, strict=True
        ):
            assert ids[mask.bool()].tolist() == EXAMPLES[row].tokens.tolist()


def test_targets_stay_with_their_examples() -> None:
    for batch in epochs(1):
        assert batch.targets.tolist() == batch.rows.tolist()


def test_targets_keep_their_full_precision() -> None:
    targets = collate(example([1], 1 / 3)).targets
    assert targets.dtype == torch.float64
    assert targets.tolist() == [1 / 3]


def test_evaluation_sees_every_example_once() -> None:
    made = evaluation_batches(EXAMPLES, batch_size=10, collate=COLLATE)
    assert sorted(seen(made)) == list(range(103))


def test_evaluation_begins_with_the_longest_and_keeps_the_order_of_equals() -> None:
    made = evaluation_batches(EXAMPLES, batch_size=10, collate=COLLATE)
    assert seen(made) == sorted(range(103), key=lambda row: -len(EXAMPLES[row].tokens))


def test_evaluating_nothing_gives_no_batch() -> None:
    made = evaluation_batches(Examples.collect([]), batch_size=10, collate=COLLATE)
    assert not list(made)


def test_examples_are_padded_on_the_right_to_the_batchs_longest() -> None:
    collator = Collator(pad_token=9, token_types=False)
    batch = collate(example([5, 6, 7], 1), example([8]), collator=collator)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.targets.tolist() == [1, 0]


def test_a_pad_token_inside_a_text_is_attended_to() -> None:
    assert collate(example([PAD, PAD])).attention_mask.tolist() == [[1, 1]]


def test_token_types_tell_the_second_segment_from_the_first_and_from_padding() -> None:
    batch = collate(
        example([1, 2, 3], second=2), example([1, 2, 3, 4, 5], second=1), collator=COLLATE_PAIRS
    )
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [[0, 0, 1, 0, 0], [0, 1, 1, 1, 1]]


def test_one_segment_is_of_the_first_type_throughout() -> None:
    types = collate(example([1, 2]), collator=COLLATE_PAIRS).token_type_ids
    assert types is not None
    assert types.tolist() == [[0, 0]]


def test_a_model_without_token_types_gets_none() -> None:
    assert collate(example([1, 2], second=1)).token_type_ids is None


@pytest.mark.parametrize("collator", [COLLATE, COLLATE_PAIRS])
def test_a_batch_moves_as_a_whole(collator: Collator) -> None:
    moved = collate(example([5], 1), collator=collator).to(torch.device("meta"))
    tensors = (moved.input_ids, moved.attention_mask, moved.targets, moved.rows)
    assert all(tensor.is_meta for tensor in tensors)
    assert collator is COLLATE or (
        moved.token_type_ids is not None and moved.token_type_ids.is_meta
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_arrives_on_a_gpu_as_it_left() -> None:
    moved = collate(example([5, 6], 1 / 3)).to(torch.device("cuda"))
    assert moved.input_ids.tolist() == [[5, 6]]
    assert moved.targets.tolist() == [1 / 3]


@pytest.mark.parametrize("limit", [batches.MEMORY_LIMIT, 0], ids=["in memory", "on disk"])
@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            example,
            st.lists(st.integers(0, 2**31 - 1), max_size=8),
            st.floats(allow_nan=False),
            st.none() | st.integers(0, 8),
        )
    )
)
def test_examples_read_back_as_they_were_collected(limit: int, items: Sequence[Example]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MEMORY_LIMIT", limit)
        collected = Examples.collect(items)
    assert plain(collected) == plain(items)


def test_many_tokens_lie_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 1000)
    assert isinstance(of_lengths([5] * 100).tokens.base, np.memmap)
    assert not isinstance(of_lengths([5] * 50).tokens.base, np.memmap)


def test_collecting_many_tokens_takes_no_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 1000)
    one = example(range(10_000))
    tracemalloc.start()
    examples = Examples.collect(one for _ in range(400))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak * 8 < examples.tokens.nbytes


def test_examples_know_their_lengths_and_targets() -> None:
    examples = Examples.collect([example([1, 2], 0.5), example([3], 7)])
    assert examples.lengths.tolist() == [2, 1]
    assert examples.targets.tolist() == [0.5, 7]


def test_examples_are_counted_from_the_end_and_sliced_as_lists_are() -> None:
    assert EXAMPLES[-1].target == 102
    assert [item.target for item in EXAMPLES[1:6:2]] == [1, 3, 5]
    with pytest.raises(IndexError):
        EXAMPLES[103]
