"""What an epoch of PST costs in batches of texts of like length, beside dynamic padding.

Both take the same rows. Dynamic padding takes them as they are shuffled, and pads each batch to its
longest text; the other batches are those that the service trains on (batches.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pst_core.batches import OF_EXAMPLES, Batch, Collator, Example, Examples, training_batches
from pst_core.bench.contest import RECIPE
from pst_core.bench.shapes import Clock, Workload
from pst_core.bench.step import Lane, Timing
from pst_core.shuffle import shuffled

Batching = Literal["dynamic", "bucketed"]

BATCH_SIZE = RECIPE.batch_size
SEED = 0
COLLATE = Collator(pad_token=0, token_types=False)


@dataclass(frozen=True, slots=True)
class Epoch:
    """All batches of one epoch, and the steps on some of them.

    Args:
        sizes: The tokens of each batch, padding included.
        sampled: Those of the batches that were run, in their order.
        timing: Of these steps.
    """

    sizes: Sequence[int]
    sampled: Sequence[int]
    timing: Timing

    @property
    def tokens(self) -> int:
        return sum(self.sizes)

    def seconds(self, clock: Clock) -> float:
        """Of all batches, were they on average as those that were run."""
        return sum(self.timing.seconds(clock)) / len(self.sampled) * len(self.sizes)


def measure(workload: Workload, token_counts: NDArray[np.int64]) -> dict[Batching, Epoch]:
    """Count an epoch's tokens both ways, and time as many steps of each, in turn.

    The batches that are run lie at even distances among all of the epoch, by size.
    """
    torch.set_num_threads(1)
    texts = random_texts(workload, token_counts)
    batches: dict[Batching, list[Batch]] = {
        "dynamic": _dynamic(texts),
        "bucketed": _bucketed(texts),
    }
    sampled = {name: _sample(each, workload.rounds) for name, each in batches.items()}
    lanes = {name: Lane("pst", workload) for name in batches}
    for number in range(min(workload.rounds, len(batches["dynamic"]))):
        for name, lane in lanes.items():
            batch = sampled[name][number].to(torch.device(workload.device))
            lane.run(batch.inputs() | {"labels": batch.targets.long()})
    return {
        name: Epoch(_sizes(batches[name]), _sizes(sampled[name]), lane.timing)
        for name, lane in lanes.items()
    }


def random_texts(workload: Workload, token_counts: NDArray[np.int64]) -> Examples:
    """Texts of these lengths, of two classes: which tokens they hold costs nothing."""
    generator = np.random.default_rng(SEED)
    vocabulary = workload.shape.vocabulary
    return Examples.collect(
        Example(generator.integers(vocabulary, size=count, dtype=np.int32), number % 2)
        for number, count in enumerate(token_counts)
    )


def _dynamic(texts: Examples) -> list[Batch]:
    order = shuffled(len(texts), SEED, OF_EXAMPLES)
    begins = range(0, len(texts), BATCH_SIZE)
    return [COLLATE(texts, order[start : start + BATCH_SIZE]) for start in begins]


def _bucketed(texts: Examples) -> list[Batch]:
    endless = training_batches(texts, batch_size=BATCH_SIZE, seed=SEED, collate=COLLATE)
    return list(islice(endless, -(-len(texts) // BATCH_SIZE)))


def _sample(batches: Sequence[Batch], count: int) -> list[Batch]:
    """So many of the batches, or all of them, from the middles of equal shares of their sizes."""
    by_size = sorted(batches, key=lambda batch: batch.input_ids.numel())
    count = min(count, len(batches))
    return [by_size[(2 * number + 1) * len(batches) // (2 * count)] for number in range(count)]


def _sizes(batches: Sequence[Batch]) -> list[int]:
    return [batch.input_ids.numel() for batch in batches]
