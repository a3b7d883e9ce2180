"""The tensors of an adapter, one at a time: what each is, and what makes a pruned matrix.

Files are adapter.py's.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pst_core.errors import CheckpointCorruptError
from pst_core.factors import Factors
from pst_core.formats.adapter_contents import PARTS, Dtype, TensorEntry
from pst_core.formats.mask_coding import Mask

DTYPES: dict[Dtype, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_DIMENSIONS = 2
_FACTOR_DTYPES = {torch.float32, torch.float64}


@dataclass(frozen=True, slots=True)
class Update:
    """What makes a pruned matrix of the base model's.

    Args:
        factors: As the matrix is stored.
        mask: True where an entry is kept, bool, in the shape of the matrix.
    """

    factors: Factors
    mask: Mask

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether this is the update of a matrix of that shape."""
        U, V = self.factors.U, self.factors.V
        return (
            len(shape) == _DIMENSIONS
            and math.prod(shape) > 0
            and {U.dtype, V.dtype} <= _FACTOR_DTYPES
            and (*U.shape[:1], *V.shape[1:]) == self.mask.shape == tuple(shape)
            and U.shape[1:] == V.shape[:1]
        )

    def apply(self, weight: Tensor) -> Tensor:
        """M ⊙ W', a new tensor; pruned entries are +0.0."""
        return torch.where(torch.from_numpy(self.mask), self.factors.update(weight), 0.0)

    def parts(self, name: str) -> dict[str, Tensor]:
        """The tensors that hold it, by name."""
        tensors = (self.factors.U, self.factors.V, _encode_mask(self.mask))
        return {
            name + part: tensor.contiguous() for part, tensor in zip(PARTS, tensors, strict=True)
        }


def join(name: str, parts: Mapping[str, Tensor], beta: float, shape: torch.Size) -> Update:
    """The update of a matrix from the tensors that hold it.

    Raises:
        CheckpointCorruptError: They do not fit each other or the matrix.
    """
    U, V, bits = (parts[name + part] for part in PARTS)
    update = Update(Factors(U, V, beta), _decode_mask(name, bits, shape))
    require(update.fits(shape), name, f"its factors do not fit a matrix of shape {list(shape)}")
    return update


def describe(tensor: Tensor) -> TensorEntry:
    """What a tensor is.

    Raises:
        ValueError: Adapters know no such dtype.
    """
    if tensor.dtype not in _DTYPE_NAMES:
        raise ValueError(f"An adapter cannot hold tensors of {tensor.dtype}.")
    return TensorEntry(
        dtype=_DTYPE_NAMES[tensor.dtype], shape=tuple(tensor.shape), sha256=sha256(tensor)
    )


def sha256(tensor: Tensor) -> str:
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()


def original(base: Mapping[str, Tensor], name: str, dtype: Dtype) -> Tensor | None:
    """A tensor of the base model, on the CPU; None where it has none of that name.

    Args:
        base: By name. What a model with a head puts before the names of its base model's tensors,
            as BERT's `bert.`, may be lacking.
        name: As in the model with a head.
        dtype: What it is given where both are floating-point.
    """
    found = base.get(name)
    if found is None:
        found = base.get(name.partition(".")[2])
    if found is None or found.dtype not in _DTYPE_NAMES:
        return None
    wanted = DTYPES[dtype]
    both = found.is_floating_point() and wanted.is_floating_point
    return found.detach().to("cpu", wanted if both else found.dtype)


def require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise CheckpointCorruptError(f"The adapter's tensor {name} is corrupt: {problem}.")


def _encode_mask(mask: Mask) -> Tensor:
    """One bit an entry, row-major, from the least significant; the last byte is filled with 0."""
    return torch.from_numpy(np.packbits(mask.ravel(), bitorder="little"))


def _decode_mask(name: str, bits: Tensor, shape: torch.Size) -> Mask:
    size = math.prod(shape)
    length = -(-size // 8)
    fits = bits.dtype == torch.uint8 and tuple(bits.shape) == (length,)
    require(fits, f"{name}:mask", f"it is not the {length} bytes of {size} bits")
    padding = int(bits[-1]) >> (size % 8) if size % 8 else 0
    require(padding == 0, f"{name}:mask", "the bits after its end are not zero")
    return np.unpackbits(bits.numpy(), count=size, bitorder="little").view(np.bool_).reshape(shape)
