"""Floats rounded to two bytes without torch, as it rounds them: to the nearest, ties to even."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pst_core.spec import ValueDtype

NAMES: dict[ValueDtype, str] = {"float16": "F16", "bfloat16": "BF16"}
_QUIET_NAN = 0x7FC0


def round_to(values: NDArray[Any], stored: str, asked: ValueDtype) -> NDArray[Any]:
    """Round values.

    Args:
        values: As numpy holds them; uint16 for the bit patterns of bfloat16.
        stored: Their dtype in safetensors' terms: F64, F32, F16 or BF16.
        asked: What to round them to.

    Returns:
        float16, or uint16 for the bit patterns of bfloat16. What is too large becomes infinite.
    """
    if stored == NAMES[asked]:
        return values
    if stored == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if asked == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32).view(np.uint32)
    # Half of what is cut off, or a little less where the last digit that stays is even.
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(_QUIET_NAN), rounded)
