"""Lets transformers load packed checkpoints: `quant_method: pst-packed` in config.json leads here.

Importing this imports transformers and torch; pst_core/__init__.py does so once transformers is
there. The model that comes out is a plain dense one, with nothing left of the packing.
"""

import re
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightTransform
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from pst_core.errors import CheckpointCorruptError
from pst_core.formats import blob, packed

if TYPE_CHECKING:
    # Not at run time: transformers may be halfway through this very module.
    from transformers import PreTrainedModel


@register_quantization_config(packed.QUANT_METHOD)
class PackedConfig(QuantizationConfigMixin):
    """The `quantization_config` of a packed folder's config.json; keys beside these are ignored.

    Raises:
        CheckpointCorruptError: There is no version, or no such one.
        CheckpointVersionError: A newer release wrote the folder.
    """

    quant_method: Any  # transformers' enumeration has no place for others

    def __init__(self, version: object = None, **_: object) -> None:
        packed.require_version(version)
        self.quant_method = packed.QUANT_METHOD
        self.version = version
        # Says that loading ends in a plain model, so transformers takes this config off it.
        self.dequantize = True


class Densify(ConversionOps):
    """Turns a blob into its dense tensor, and gives every tensor the dtype of its parameter.

    Args:
        dtypes: Patterns of names of parameters that keep a dtype of their own.
    """

    def __init__(self, dtypes: dict[str, torch.dtype]) -> None:
        self.dtypes = dtypes

    def __deepcopy__(self, _: object) -> "Densify":
        # transformers copies a converter for each tensor, with all that it holds.
        return self

    def convert(
        self, input_dict: dict[str, Any], *_: object, **context: object
    ) -> dict[str, list[Tensor]]:
        name = str(context["full_layer_name"])
        target = cast("PreTrainedModel", context["model"]).get_parameter_or_buffer(name)
        if not (isinstance(target, Tensor) and target.is_floating_point()):
            return input_dict
        own = (self.dtypes[p] for p in self.dtypes if _matches(p, name))
        dtype = next(own, target.dtype)
        return {
            pattern: [_densify(name, tensor).to(dtype) for tensor in tensors]
            for pattern, tensors in input_dict.items()
        }


@register_quantizer(packed.QUANT_METHOD)
class PackedQuantizer(HfQuantizer):
    """Sends every tensor of a packed folder through `Densify` while transformers loads it."""

    def _process_model_before_weight_loading(self, model: "PreTrainedModel", **_: object) -> None:
        # Those that transformers keeps in float32 (T5's `wo`) where float16 is asked for.
        dtype = cast("torch.dtype", model.config.dtype)
        self._dtypes = model._get_dtype_plan(dtype)  # noqa: SLF001
        self._leaves = sorted({name.rpartition(".")[2] for name in model.state_dict()})
        self._shapes = {name: tensor.shape for name, tensor in model.named_parameters()}

    def update_weight_conversions(
        self, weight_conversions: list[WeightTransform], *_: object
    ) -> list[WeightTransform]:
        """Densify before the model's own conversions, and where it has none (one each applies)."""
        densify = Densify(self._dtypes)
        for conversion in weight_conversions:
            if isinstance(conversion, WeightConverter):
                conversion.operations.insert(0, densify)
        leaves = [WeightConverter(leaf, leaf, [densify]) for leaf in self._leaves]
        return [*weight_conversions, *leaves]

    def _process_model_after_weight_loading(
        self, model: "PreTrainedModel", **_: object
    ) -> "PreTrainedModel":
        # Saving would try to reverse them; later releases of transformers drop them on their own.
        model.__dict__.pop("_weight_conversions", None)
        # Some releases of transformers do not compare shapes where a quantizer is at work.
        for name, parameter in model.named_parameters():
            if parameter.shape != self._shapes[name]:
                raise CheckpointCorruptError(
                    f"Tensor {name} is {tuple(parameter.shape)} in the packed folder, "
                    f"{tuple(self._shapes[name])} in the model that its config.json describes."
                )
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True


def _matches(pattern: str, name: str) -> bool:
    return re.search(pattern.replace("*", ".*"), name) is not None


def _densify(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.uint8 or tensor.ndim != 1:
        return tensor
    return packed.to_tensor(blob.unpack(tensor.cpu().numpy(), name)).to(tensor.device)
