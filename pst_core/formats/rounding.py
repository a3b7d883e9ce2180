"""Floats rounded to two bytes as torch rounds them: to the nearest, ties to even.

Those of eight bytes go by way of four.
"""

from typing import Any

from numpy.typing import NDArray

from pst_core.spec import ValueDtype

NAMES: dict[ValueDtype, str] = {"float16": "F16", "bfloat16": "BF16"}


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
    # numpy takes ten times as long. Reading, which is done without torch, rounds nothing.
    import torch

    tensor = torch.tensor(values)  # a copy: what is mapped from a file can't be written to
    if stored == "BF16":
        tensor = tensor.view(torch.bfloat16)
    if asked == "float16":
        return tensor.half().numpy()
    return tensor.bfloat16().view(torch.uint16).numpy()
