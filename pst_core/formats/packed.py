"""Packed checkpoints: Hugging Face folders whose tensors are blobs under their own names.

Made from a dense folder and back; blob.py packs one tensor, transformers_plugin.py loads a model.
Without torch, but for what is to be rounded.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pst_core.errors import CheckpointCorruptError, CheckpointVersionError, SpecError
from pst_core.formats import blob
from pst_core.formats.folder import CONFIG, read_json, rewrite, staged, weight_files
from pst_core.formats.mask_coding import Mask
from pst_core.formats.rounding import NAMES, round_to
from pst_core.formats.tensor_file import FLOATS, Bytes, Entry, TensorReader, TensorWriter, opened
from pst_core.spec import ValueDtype

if TYPE_CHECKING:
    from torch import Tensor

QUANT_METHOD = "pst-packed"
VERSION = blob.VERSION

_MIN_DIMENSIONS = 2
_INFINITY = {"F16": 0x7C00, "BF16": 0x7F80}  # its bits
SAFETENSORS_DTYPES = {dtype: name for name, dtype in FLOATS.items()}


def write_packed(
    dense_dir: Path,
    masks: Mapping[str, Mask],
    out_dir: Path,
    value_dtype: ValueDtype | None = None,
) -> None:
    """Write a dense Hugging Face folder in the packed format.

    Weight files keep their names and shards, other files are copied (but `pst.json`). At most one
    tensor is in memory beside the masks.

    Args:
        dense_dir: The folder to read; its pruned entries are +0.0.
        masks: For each pruned tensor, by its name in the file: True where an entry is kept, bool,
            in the shape of the tensor as stored. Other tensors are packed whole where that saves
            something.
        out_dir: The folder to make. It may exist if it is empty; it appears whole or not at all.
        value_dtype: What every float is rounded to; None: nothing is.

    Raises:
        ValueError: Masks and folder do not fit: no such tensor, another shape, fewer than two
            dimensions, a pruned entry that is not +0.0, or a folder that is quantized already.
        SpecError: `value_dtype` cannot hold a value.
        CheckpointCorruptError: The dense folder cannot be read.
        FileExistsError: `out_dir` holds something.
    """
    config = read_json(dense_dir / CONFIG)
    if "quantization_config" in config:
        raise ValueError(f"{dense_dir} is quantized or packed already.")
    config["quantization_config"] = {"quant_method": QUANT_METHOD, "version": VERSION}
    if value_dtype is not None:
        config["dtype"] = value_dtype
    absent = set(masks)

    def convert(reader: TensorReader, entry: Entry, writer: TensorWriter) -> None:
        absent.discard(entry.name)
        if is_blob(entry):
            raise ValueError(f"Tensor {entry.name} is uint8 in one dimension, as only blobs are.")
        data = reader.read(entry)
        dtype = entry.dtype
        if dtype in FLOATS and value_dtype is not None:
            dtype = NAMES[value_dtype]
            data = _rounded(entry, data, value_dtype)
        packed = _pack(entry, dtype, data, masks.get(entry.name))
        if packed is None:
            writer.add(entry.name, dtype, entry.shape, data.data)
        else:
            writer.add(entry.name, "U8", (len(packed),), packed)

    with staged(out_dir) as stage:
        rewrite(dense_dir, stage, config, convert)
        if absent:
            raise ValueError(f"{dense_dir} has no tensors {sorted(absent)}.")


def unpack(packed_dir: Path, out_dir: Path) -> None:
    """Write a packed folder as the dense one it was made from, bit for bit in every tensor.

    Args:
        packed_dir: The folder to read.
        out_dir: As in `write_packed`.

    Raises:
        CheckpointCorruptError: The packed folder cannot be read; names the tensor and the file.
        CheckpointVersionError: A newer release wrote it.
        FileExistsError: `out_dir` holds something.
    """
    config = _read_packed_config(packed_dir)
    del config["quantization_config"]

    def convert(reader: TensorReader, entry: Entry, writer: TensorWriter) -> None:
        data = reader.read(entry)
        if not is_blob(entry):
            writer.add(entry.name, entry.dtype, entry.shape, data.data)
            return
        values = blob.unpack(data, f"{entry.name} in {reader.name}")
        dtype = SAFETENSORS_DTYPES[values.dtype]
        writer.add(entry.name, dtype, values.shape, values.reshape(-1).view(np.uint8).data)

    with staged(out_dir) as stage:
        rewrite(packed_dir, stage, config, convert)


def read_masks(packed_dir: Path) -> Iterator[tuple[str, Mask]]:
    """Read which entries each pruned tensor keeps.

    Yields:
        Name and mask (bool, in the dense tensor's shape) of one pruned tensor after another.

    Raises:
        CheckpointCorruptError: The folder cannot be read; names the tensor and the file.
        CheckpointVersionError: A newer release wrote it.
    """
    for name, data, label in _read_blobs(packed_dir):
        if blob.read_header(data, label).is_masked:
            yield name, blob.unpack_mask(data, label)


def read_tensors(packed_dir: Path) -> Iterator[tuple[str, blob.Values]]:
    """Read every packed tensor, pruned or not, in dense form; errors as `read_masks`.

    Yields:
        Name and values of one packed tensor after another; bfloat16 as uint16 bit patterns.
    """
    for name, data, label in _read_blobs(packed_dir):
        yield name, blob.unpack(data, label)


def is_packed(directory: Path) -> bool:
    """Whether a folder's config.json says that it is packed."""
    declared = read_json(directory / CONFIG).get("quantization_config")
    return isinstance(declared, dict) and declared.get("quant_method") == QUANT_METHOD


def require_version(version: object) -> None:
    """Raise unless this release reads that version of the packed folder."""
    if not isinstance(version, int) or version < 1:
        raise CheckpointCorruptError(f"The packed folder's config.json says version {version!r}.")
    if version > VERSION:
        raise CheckpointVersionError(
            f"The folder is packed in version {version}, this release reads up to {VERSION}.",
            remedy="Upgrade pst-service.",
        )


def to_tensor(values: blob.Values) -> "Tensor":
    """Give an unpacked array to torch without a copy; uint16 becomes bfloat16, bit for bit."""
    import torch

    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if values.dtype == np.uint16 else tensor


def is_blob(entry: Entry) -> bool:
    """Whether a tensor of a packed folder is another one's packed form."""
    return entry.dtype == "U8" and len(entry.shape) == 1


def _pack(entry: Entry, dtype: str, data: Bytes, mask: Mask | None) -> bytes | None:
    """A tensor's blob; None where it is better left as it is."""
    if mask is None:
        if dtype not in FLOATS:
            return None
        packed = blob.pack(data.view(FLOATS[dtype]).reshape(entry.shape))
        # One as long as a vector could load elsewhere as that vector's weights.
        return packed if len(packed) < data.size and entry.shape != (len(packed),) else None
    if len(entry.shape) < _MIN_DIMENSIONS or dtype not in FLOATS:
        raise ValueError(f"Tensor {entry.name} is no float matrix: {dtype}, {entry.shape}.")
    values = data.view(FLOATS[dtype]).reshape(entry.shape)
    try:
        packed = blob.pack(values, mask)
    except ValueError as error:
        raise ValueError(f"Tensor {entry.name}: {error}") from error
    # Greater: not zero where the mask is False.
    is_not_zero = data.view(f"<u{values.itemsize}").reshape(entry.shape) != 0
    if (is_not_zero > mask).any():
        raise ValueError(f"Tensor {entry.name} has pruned entries that are not +0.0.")
    return packed


def _rounded(entry: Entry, data: Bytes, value_dtype: ValueDtype) -> Bytes:
    values = data.view(FLOATS[entry.dtype])
    rounded = round_to(values, entry.dtype, value_dtype)
    infinite = _count_infinite(rounded, NAMES[value_dtype])
    if infinite and infinite > _count_infinite(values, entry.dtype):
        raise SpecError(
            f"Tensor {entry.name} has values that {value_dtype} cannot hold.",
            field="value_dtype",
            remedy="Take bfloat16, which has the range of float32, or leave it out.",
        )
    return rounded.view(np.uint8)


def _count_infinite(values: blob.Values, dtype: str) -> int:
    if dtype in _INFINITY:
        return int(np.count_nonzero((values.view(np.uint16) & 0x7FFF) == _INFINITY[dtype]))
    return int(np.count_nonzero(np.isinf(values)))


def _read_blobs(packed_dir: Path) -> Iterator[tuple[str, blob.Blob, str]]:
    """Yield each blob with its tensor's name and a label that names tensor and file."""
    _read_packed_config(packed_dir)
    for path in weight_files(packed_dir):
        with opened(path) as reader:
            for entry in reader.entries:
                if is_blob(entry):
                    yield entry.name, reader.read(entry), f"{entry.name} in {reader.name}"


def _read_packed_config(directory: Path) -> dict[str, Any]:
    config = read_json(directory / CONFIG)
    if not is_packed(directory):
        raise CheckpointCorruptError(f"{directory} is not packed by its config.json.")
    require_version(config["quantization_config"].get("version"))
    return config
