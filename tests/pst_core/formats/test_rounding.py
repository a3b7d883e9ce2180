"""Rounding numpy's arrays to two bytes, beside an independent formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.formats.rounding import round_to
from pst_core.spec import ValueDtype

each_target = pytest.mark.parametrize("asked", ["float16", "bfloat16"])


def nearest(values: np.ndarray, asked: ValueDtype) -> np.ndarray:
    """The bits of float32 values rounded by numpy, and for bfloat16 by their definition."""
    if asked == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


@each_target
@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_float32_rounds_to_the_nearest(asked: ValueDtype, patterns: list[int]) -> None:
    values = np.array(patterns, np.uint32).view(np.float32)
    values = values[~np.isnan(values)]
    assert np.array_equal(round_to(values, "F32", asked).view(np.uint16), nearest(values, asked))


@each_target
@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_float64_rounds_by_way_of_float32(asked: ValueDtype, numbers: list[float]) -> None:
    values = np.array(numbers)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    assert np.array_equal(round_to(values, "F64", asked).view(np.uint16), nearest(narrow, asked))


@each_target
def test_not_a_number_stays_none(asked: ValueDtype) -> None:
    rounded = round_to(np.array([np.nan], np.float32), "F32", asked)
    dtype = getattr(torch, asked)
    assert torch.from_numpy(rounded.view(np.int16)).view(dtype).isnan().all()


def test_what_has_the_dtype_already_is_not_touched() -> None:
    values = np.array([0x7FA1, 0x8000], np.uint16)
    assert round_to(values, "BF16", "bfloat16") is values


def test_bfloat16_becomes_float16() -> None:
    values = torch.tensor([1.5, -0.0, 3e-3]).bfloat16()
    rounded = round_to(values.view(torch.uint16).numpy(), "BF16", "float16")
    assert np.array_equal(rounded, values.half().numpy())
