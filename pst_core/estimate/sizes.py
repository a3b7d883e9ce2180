"""How many bytes each format will take, from shapes alone.

A mask of n entries of which a share d is kept takes n·H(d) bits, H being the binary entropy; the
values as many as the entropy of their bytes, which is much the same for all trained weights:
mantissas are noise, exponents few. formats/limits.py counts both of a finished model.
"""

import math

from transformers import PreTrainedModel

from pst_core.estimate.skeleton import Counted
from pst_core.forecast import SizeForecast
from pst_core.recipes import Hyperparameters
from pst_core.spec import CompressionSpec, Format, ValueDtype

FLOAT = 4
# Bits a value takes by the entropy of its bytes: as measured on finished models. Of what masks
# keep, magnitudes lie above a threshold, so that exponents are fewer.
KEPT_BITS: dict[ValueDtype | None, float] = {None: 26.4, "float16": 13.6, "bfloat16": 10.4}
OTHER_BITS: dict[ValueDtype | None, float] = {None: 25.8, "float16": 13.7, "bfloat16": 10.4}
# Of a GGUF file the low bits of what was quantized are all alike; as measured of Q4_1.
DEQUANTIZED_BITS = OTHER_BITS | {None: 18.7}
HEADER = 100  # bytes a tensor: its entry in a safetensors header


def forecast_sizes(
    spec: CompressionSpec, model: PreTrainedModel, main: Counted, *, dequantized: bool
) -> dict[Format, SizeForecast]:
    """Bytes of the weights in each format that is published; `dense` in any case.

    Args:
        spec: What was asked.
        model: Plain, without its weights.
        main: Counts of the spec's method.
        dequantized: Whether the weights come from a GGUF file.
    """
    other_bits = (DEQUANTIZED_BITS if dequantized else OTHER_BITS)[spec.value_dtype]
    kept_bits = KEPT_BITS[spec.value_dtype]
    tensors, names = _stored(model), sum(len(name) for name in model.state_dict())
    headers = HEADER * len(tensors) + names
    dense = FLOAT * sum(tensors.values()) + headers
    pruned = main.pruned(spec)
    others = sum(tensors.values()) - main.entries
    found: dict[Format, SizeForecast] = {"dense": SizeForecast(bytes=dense, basis="exact")}
    for name in spec.formats:
        match name:
            case "packed":
                bits = _packed_bits(main.entries, pruned, kept_bits) + others * other_bits
                found[name] = SizeForecast(bytes=math.ceil(bits / 8) + headers, basis="entropy")
            case "adapter":
                hyper = spec.resolved_hyperparameters()
                found[name] = SizeForecast(
                    bytes=_adapter(main, hyper, others) + headers, basis="exact"
                )
            case "onnx":
                found[name] = SizeForecast(bytes=dense, basis="exact")
            case "compact":
                found[name] = SizeForecast(bytes=None, basis="unknown")
    return found


def _stored(model: PreTrainedModel) -> dict[str, int]:
    """Entries of each tensor in a checkpoint; those that share memory are stored once."""
    return {name: parameter.numel() for name, parameter in model.named_parameters()}


def _packed_bits(entries: int, pruned: int, kept_bits: float) -> float:
    kept = entries - pruned
    return entries * _entropy(kept / entries if entries else 0.0) + kept * kept_bits


def _adapter(main: Counted, hyper: Hyperparameters, others: int) -> int:
    """U, V and a bit an entry of each matrix, and what else has trained."""
    factors = sum(hyper.rank * (rows + columns) for rows, columns in main.shapes.values())
    masks = sum(-(-rows * columns // 8) for rows, columns in main.shapes.values())
    learned = sum(
        hyper.rank * (rows + columns) + hyper.score_rank * (rows + columns) + rows + columns
        for rows, columns in main.shapes.values()
    )
    beside = min(others, main.trainable - learned)
    return FLOAT * (factors + max(0, beside)) + masks


def _entropy(share: float) -> float:
    """H, in bits."""
    if share in (0.0, 1.0):
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)
