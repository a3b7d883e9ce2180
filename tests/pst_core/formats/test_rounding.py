"""Rounding numpy's arrays gives the bits that torch gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pst_core.formats.rounding import round_to
from pst_core.spec import ValueDtype

TARGETS: list[tuple[ValueDtype, torch.dtype]] = [
    ("float16", torch.float16),
    ("bfloat16", torch.bfloat16),
]
each_target = pytest.mark.parametrize(("asked", "dtype"), TARGETS)


def bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.view(torch.uint16).numpy()


@each_target
@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_float32_rounds_as_torch_rounds(
    asked: ValueDtype, dtype: torch.dtype, patterns: list[int]
) -> None:
    values = np.array(patterns, np.uint32).view(np.float32)
    values = values[~np.isnan(values)]
    expected = bits(torch.from_numpy(values).to(dtype))
    assert np.array_equal(round_to(values, "F32", asked).view(np.uint16), expected)


@each_target
@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_float64_rounds_as_torch_rounds(
    asked: ValueDtype, dtype: torch.dtype, numbers: list[float]
) -> None:
    values = np.array(numbers)
    expected = bits(torch.from_numpy(values).to(dtype))
    assert np.array_equal(round_to(values, "F64", asked).view(np.uint16), expected)


@each_target
def test_not_a_number_stays_none(asked: ValueDtype, dtype: torch.dtype) -> None:
    rounded = round_to(np.array([np.nan], np.float32), "F32", asked)
    assert torch.from_numpy(rounded.view(np.int16)).view(dtype).isnan().all()


def test_what_has_the_dtype_already_is_not_touched() -> None:
    values = np.array([0x7FA1, 0x8000], np.uint16)
    assert round_to(values, "BF16", "bfloat16") is values


def test_bfloat16_becomes_float16() -> None:
    values = torch.tensor([1.5, -0.0, 3e-3]).bfloat16()
    rounded = round_to(bits(values), "BF16", "float16")
    assert np.array_equal(rounded, values.half().numpy())
