"""Orders that a seed alone decides, the same with every release of NumPy.

What is put into order, rows or batches, is the caller's business.
"""

import numpy as np
from numpy.typing import NDArray


def shuffled(count: int, *seeds: int) -> NDArray[np.int64]:
    """The numbers below ``count`` in an order of the seeds' own.

    NumPy keeps a bit generator's raw numbers the same for ever, and promises that of no shuffle.

    Args:
        count: How many.
        seeds: Each at least 0; zeros at their end change nothing.
    """
    return np.argsort(np.random.PCG64(seeds).random_raw(count), kind="stable")


def stratified(classes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A seeded shuffle in which every run of rows has nearly the class shares of the whole.

    Each class's rows are shuffled and spread evenly over [0, 1): the j-th of n lies at (j + ½)/n.

    Args:
        classes: The number of each row's class, from 0.
        seed: Of the shuffle.

    Returns:
        The positions of the rows, in their new order.
    """
    order = shuffled(len(classes), seed)
    order = order[np.argsort(classes[order], kind="stable")]
    sizes = np.bincount(classes)
    begins = np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = (np.arange(len(order)) - begins + 0.5) / np.repeat(sizes, sizes)
    return order[np.argsort(places, kind="stable")]
