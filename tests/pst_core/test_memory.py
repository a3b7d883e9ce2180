"""The peak is that since it was last forgotten, not that of the process's whole life."""

import numpy as np
import torch

from pst_core.memory import forget_peak, memory_now, peak_memory

CPU = torch.device("cpu")
SIZE = 200 * 1024 * 1024


def test_a_peak_that_was_forgotten_is_gone() -> None:
    np.ones(SIZE, np.uint8)
    before = peak_memory(CPU)
    forget_peak(CPU)
    assert peak_memory(CPU) < before - SIZE // 2


def test_what_is_held_for_a_moment_is_in_the_peak_and_not_in_use() -> None:
    forget_peak(CPU)
    before = memory_now(CPU)
    np.ones(SIZE, np.uint8)
    assert peak_memory(CPU) > before + SIZE // 2
    assert memory_now(CPU) < before + SIZE // 2
