from typing import Any

from numpy.typing import NDArray

def place_values(
    out: NDArray[Any],
    kind: int,
    mask: NDArray[Any],
    sections: tuple[NDArray[Any] | bytes, ...],
    count: int,
    turned: bool,
    /,
) -> bool: ...

place_values_anywhere = place_values
