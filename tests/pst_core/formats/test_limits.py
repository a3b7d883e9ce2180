"""The information-theoretic limit of a folder, against entropies worked out entry by entry."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pst_core.benefit_report import Limit
from pst_core.errors import CheckpointCorruptError
from pst_core.formats import limits
from pst_core.formats.limits import limit


def save(folder: Path, **tensors: Tensor) -> Path:
    save_file(tensors, folder / "model.safetensors")
    return folder


def plain_bits(symbols: Iterable[Hashable]) -> float:
    counts = Counter(symbols)
    total = counts.total()
    return -sum(count * math.log2(count / total) for count in counts.values())


def plain_bytes(tensor: Tensor) -> float:
    """All planes' entropies, byte by byte."""
    rows = tensor.reshape(-1, 1).view(torch.uint8).tolist()
    return sum(plain_bits(plane) for plane in zip(*rows, strict=True)) / 8


def pruned(shape: tuple[int, ...], density: float, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < density, values, 0.0).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_pruned_tensor_takes_its_mask_and_its_kept_values(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    tensor = pruned((40, 30), 0.2, dtype)
    kept = tensor[tensor != 0]

    found = limit(save(tmp_path, w=tensor), {"w"})

    assert found.masks == math.ceil(plain_bits((tensor != 0).flatten().tolist()) / 8)
    assert found.values == math.ceil(plain_bytes(kept))
    assert found.others == 0


def test_other_tensors_take_the_entropy_of_their_planes(tmp_path: Path) -> None:
    tensor = pruned((50, 7), 0.5, torch.float32)

    found = limit(save(tmp_path, w=tensor), ())

    assert found == Limit(masks=0, values=0, others=math.ceil(plain_bytes(tensor)))
    assert found.total == found.others


def test_half_the_entries_kept_with_one_value_take_one_bit_each(tmp_path: Path) -> None:
    found = limit(save(tmp_path, w=torch.tensor([1.5, 0.0]).repeat(80)), {"w"})

    assert found == Limit(masks=20, values=0, others=0)


def test_a_tensor_without_entries_takes_nothing(tmp_path: Path) -> None:
    found = limit(save(tmp_path, w=torch.zeros(0, 3), all=torch.zeros(4, 4)), {"w", "all"})

    assert found.total == 0


def test_reading_in_pieces_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, w=pruned((64, 3), 0.3, torch.float32), b=torch.arange(50.0))
    whole = limit(folder, {"w"})
    monkeypatch.setattr(limits, "_CHUNK", 7)

    assert limit(folder, {"w"}) == whole


def test_a_broken_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(np.arange(9, dtype=np.uint8).tobytes())

    with pytest.raises(CheckpointCorruptError, match=r"model\.safetensors"):
        limit(tmp_path, ())
