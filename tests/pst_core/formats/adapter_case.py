"""Small adapters of models that no library knows, and what they were made of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from pst_core.factors import Factors
from pst_core.formats import adapter
from pst_core.formats.adapter_tensors import Update

REFERENCE = "pkg:some-model"
MATRIX = "net.a.weight"
SHARD = "model-0000{}-of-00002.safetensors"


@dataclass(frozen=True)
class Case:
    """A base model, a dense folder that was made from it, and the adapter between the two."""

    base: Mapping[str, Tensor]
    updates: Mapping[str, Update]
    dense_dir: Path
    adapter_dir: Path

    @property
    def file(self) -> Path:
        return self.adapter_dir / adapter.WEIGHTS

    def read(self) -> dict[str, Tensor]:
        with adapter.opened(self.adapter_dir) as opened:
            dense = opened.over(self.base)
            return {name: dense.tensor(name) for name in opened.contents.tensors}

    def write_again(self, out: Path) -> None:
        adapter.write_adapter(self.dense_dir, self.base, self.updates, out, reference=REFERENCE)


def make_base(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """As loaded without a head: no prefix in the names."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"embed.weight": (7, 5), "a.weight": (3, 5), "b.weight": (5, 3), "norm.weight": (5,)}
    return {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }


def make_updates() -> dict[str, Update]:
    rng = np.random.default_rng(0)
    updates = {}
    for name, (rows, columns) in {MATRIX: (3, 5), "net.b.weight": (5, 3)}.items():
        U = rng.standard_normal((rows, 2)).astype(np.float32)
        V = rng.standard_normal((2, columns)).astype(np.float32)
        factors = Factors(torch.from_numpy(U), torch.from_numpy(V), 0.1)
        updates[name] = Update(factors, rng.random((rows, columns)) < 0.4)
    return updates


def make_case(folder: Path, *, dtype: torch.dtype = torch.float32, shards: int = 1) -> Case:
    """The embedding as in the base, its norm changed, a head beside it."""
    base, updates = make_base(dtype), make_updates()
    dense = {f"net.{name}": tensor.clone() for name, tensor in base.items()}
    for name, update in updates.items():
        dense[name] = update.apply(dense[name])
    dense["net.norm.weight"] += 1
    dense["head.bias"] = torch.arange(2.0).to(dtype)
    return write_case(folder, base, updates, dense, shards=shards)


def smallest_case(folder: Path) -> Case:
    """One matrix of three entries, and a vector beside it."""
    base, factors = {"w": torch.ones(1, 3)}, Factors(torch.ones(1, 1), torch.ones(1, 3), 1.0)
    update = Update(factors, np.array([[True, False, True]]))
    dense = {"w": update.apply(base["w"]), "b": torch.ones(1)}
    return write_case(folder, base, {"w": update}, dense)


def write_case(
    folder: Path,
    base: Mapping[str, Tensor],
    updates: Mapping[str, Update],
    dense: Mapping[str, Tensor],
    *,
    shards: int = 1,
) -> Case:
    dense_dir = folder / "dense"
    dense_dir.mkdir()
    for name in ("config.json", "tokenizer.json", "pst.json", "pytorch_model.bin"):
        (dense_dir / name).write_text(f'{{"any": "{name}"}}\n', encoding="utf-8")
    save_weights(dense_dir, dense, shards)
    case = Case(base, updates, dense_dir, folder / "adapter")
    case.write_again(case.adapter_dir)
    return case


def save_weights(folder: Path, dense: Mapping[str, Tensor], shards: int) -> None:
    if shards == 1:
        save_file(dict(dense), folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {name: SHARD.format(1 + number % 2) for number, name in enumerate(sorted(dense))}
    for file in set(weight_map.values()):
        tensors = {name: dense[name] for name in dense if weight_map[name] == file}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
