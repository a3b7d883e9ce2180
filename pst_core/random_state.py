"""The state of every random number generator of the process, to be kept and to be put back."""

import random
from collections.abc import Mapping

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator
from torch import Tensor

from pst_core.fields import Strict


class RandomNumbers(Strict):
    """Of Python's and NumPy's global generators, both Mersenne twisters."""

    python: tuple[int, tuple[int, ...], float | None]
    numpy: tuple[int, ...]
    numpy_position: int


def random_numbers() -> RandomNumbers:
    version, numbers, gauss = random.getstate()
    twister = get_bit_generator().state["state"]
    return RandomNumbers(
        python=(version, numbers, gauss),
        numpy=tuple(twister["key"].tolist()),
        numpy_position=int(twister["pos"]),
    )


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generators: the CPU's, and the device's where that is another."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def restore_random(
    numbers: RandomNumbers, tensors: Mapping[str, Tensor], device: torch.device
) -> None:
    """Have every generator go on from where it was; one that was not in use is left alone."""
    random.setstate(numbers.python)
    generator = get_bit_generator()
    twister = {"key": np.array(numbers.numpy, np.uint32), "pos": numbers.numpy_position}
    generator.state = {**generator.state, "state": twister}
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
