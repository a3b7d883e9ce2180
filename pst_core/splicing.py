"""Examples made of two: texts that nobody wrote, for a model to learn its teacher's answers to.

A teacher knows the training split by heart, and what it says of other texts is what a student is
to learn (TinyBERT, Jiao et al. 2020, arXiv 1909.10351, replaces words for that). Who answers them
is the caller's business.
"""

import math
from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pst_core.batches import OF_CUTS, OF_PARTNERS, Example, Examples
from pst_core.shuffle import shuffled

# The least share of a text that stays: with less, a splice is nearly what the other text was.
LEAST = 0.15


def with_splices(examples: Examples, *, times: int, sets: int, seed: int) -> Examples:
    """The examples, then sets of others that are spliced of two, by the seed alone.

    Their targets are 0 until somebody gives them others.

    Args:
        examples: N of them.
        times: A set has times · N splices; each example begins as many, and ends as many.
        sets: How many follow each other.
        seed: Of what meets what, and where it is cut.
    """
    spliced = (_spliced(examples, seed, number) for number in range(times * sets))
    return Examples.collect(chain(examples, *spliced))


def rows_of_epoch(epoch: int, *, own: int, times: int, sets: int) -> NDArray[np.int64]:
    """The rows for one epoch of what `with_splices` gave: the own ones, and a set in turn."""
    begin = own * (1 + times * (epoch % sets))
    return np.concatenate([np.arange(own), np.arange(begin, begin + own * times)])


def _spliced(examples: Examples, seed: int, number: int) -> Iterator[Example]:
    partners = shuffled(len(examples), seed, number, OF_PARTNERS)
    # Raw numbers, which NumPy keeps the same for ever.
    raw = np.random.PCG64((seed, number, OF_CUTS)).random_raw(len(examples))
    shares = LEAST + (1 - 2 * LEAST) * (raw / 2.0**64)
    for row, partner in enumerate(partners):
        yield splice(examples[row], examples[int(partner)], float(shares[row]))


def splice(first: Example, last: Example, share: float) -> Example:
    """The beginning of one and the end of another, each cut at the same share of its length.

    What stands at the ends stays (a first and a last token that frame a text), and the segments of
    two pairs are spliced each by itself. None gets longer than the longer of its two.
    """
    if first.second is None or last.second is None:
        return Example(_spliced_tokens(first.tokens, last.tokens, share), 0.0)
    texts = _spliced_tokens(first.tokens[: first.second], last.tokens[: last.second], share)
    pairs = _spliced_tokens(first.tokens[first.second :], last.tokens[last.second :], share)
    return Example(np.concatenate([texts, pairs]), 0.0, len(texts))


def _spliced_tokens(
    first: NDArray[np.int32], last: NDArray[np.int32], share: float
) -> NDArray[np.int32]:
    begin = first[: max(1, int(share * len(first)))]
    end = last[min(len(last) - 1, math.ceil(share * len(last))) :]
    # Only two of one token each would be longer.
    return np.concatenate([begin, end])[: max(len(first), len(last))]
