"""A dense folder becomes a packed one and a dense one again, and broken folders are refused."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pst_core.errors import CheckpointCorruptError, CheckpointVersionError, SpecError
from pst_core.formats import blob, packed
from pst_core.formats.folder import weight_bytes
from pst_core.formats.mask_coding import Mask
from pst_core.spec import ValueDtype

SHARD = "model-0000{}-of-00002.safetensors"
CONFIG = {"architectures": ["BertModel"], "hidden_size": 8, "model_type": "bert"}


def make_weights(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"embed.weight": (5, 8), "a.weight": (16, 8), "b.weight": (8, 16), "b.bias": (8,)}
    return {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }


def prune(weights: dict[str, torch.Tensor]) -> dict[str, Mask]:
    """Zero nine tenths of the two matrices, and return the masks."""
    rng = np.random.default_rng(0)
    masks = {name: rng.random(weights[name].shape) < 0.1 for name in ("a.weight", "b.weight")}
    for name, mask in masks.items():
        weights[name] = torch.where(torch.from_numpy(mask), weights[name], 0.0)
    return masks


def write_folder(folder: Path, *shards: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(b'{"any": "bytes \xc3\xa9"}\r\n')
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        save_file(shard, folder / SHARD.format(number), metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, SHARD.format(number))
    total_size = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    text = json.dumps(index, indent=2) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def declare(folder: Path, quantization: dict[str, Any]) -> None:
    text = json.dumps({**CONFIG, "quantization_config": quantization})
    (folder / "config.json").write_text(text, encoding="utf-8")


@pytest.fixture
def dense_dir(tmp_path: Path) -> Path:
    weights = make_weights()
    prune(weights)
    write_folder(tmp_path / "dense", weights)
    return tmp_path / "dense"


@pytest.fixture
def masks() -> dict[str, Mask]:
    return prune(make_weights())


@pytest.fixture
def packed_dir(dense_dir: Path, masks: dict[str, Mask]) -> Path:
    packed.write_packed(dense_dir, masks, dense_dir.with_name("packed"))
    return dense_dir.with_name("packed")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_packing_and_unpacking_gives_the_same_files(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = make_weights(dtype)
    masks = prune(weights)
    write_folder(tmp_path / "dense", weights)
    packed.write_packed(tmp_path / "dense", masks, tmp_path / "packed")
    packed.unpack(tmp_path / "packed", tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "dense")


def test_shards_stay_shards(tmp_path: Path) -> None:
    weights = make_weights()
    masks = prune(weights)
    names = sorted(weights)
    halves = [{name: weights[name] for name in part} for part in (names[:2], names[2:])]
    write_folder(tmp_path / "dense", *halves)
    packed.write_packed(tmp_path / "dense", masks, tmp_path / "packed")
    assert content(tmp_path / "packed").keys() == content(tmp_path / "dense").keys()
    index = json.loads((tmp_path / "packed" / "model.safetensors.index.json").read_bytes())
    stored = [load_file(tmp_path / "packed" / SHARD.format(number)) for number in (1, 2)]
    sizes = sum(tensor.nbytes for shard in stored for tensor in shard.values())
    assert index["metadata"]["total_size"] == sizes
    assert {name for name, _ in packed.read_masks(tmp_path / "packed")} == set(masks)
    packed.unpack(tmp_path / "packed", tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "dense")


def test_neither_packing_nor_unpacking_holds_the_whole_model(tmp_path: Path) -> None:
    one = 4 * 512 * 1024
    generator = torch.Generator().manual_seed(0)
    weights = {f"{name}.weight": torch.randn(512, 1024, generator=generator) for name in "abcdefgh"}
    write_folder(tmp_path / "dense", weights)
    del weights
    tracemalloc.start()
    packed.write_packed(tmp_path / "dense", {}, tmp_path / "packed")
    packed.unpack(tmp_path / "packed", tmp_path / "again")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * one


@pytest.mark.parametrize(
    ("asked", "dtype"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)]
)
def test_values_are_rounded_where_that_is_asked_for(
    dense_dir: Path, masks: dict[str, Mask], tmp_path: Path, asked: ValueDtype, dtype: torch.dtype
) -> None:
    packed.write_packed(dense_dir, masks, tmp_path / "packed", asked)
    packed.unpack(tmp_path / "packed", tmp_path / "again")
    found = load_file(tmp_path / "again" / "model.safetensors")
    for name, tensor in load_file(dense_dir / "model.safetensors").items():
        assert torch.equal(found[name], tensor.to(dtype)), name


def test_a_value_too_large_to_round_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "dense", {"a.weight": torch.full((2, 2), 1e6)})
    with pytest.raises(SpecError, match=r"a\.weight has values that float16 cannot hold"):
        packed.write_packed(tmp_path / "dense", {}, tmp_path / "packed", "float16")


def test_large_unpruned_tensors_are_packed_too(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    write_folder(tmp_path / "dense", {"embed.weight": torch.randn(256, 256, generator=generator)})
    packed.write_packed(tmp_path / "dense", {}, tmp_path / "packed")
    assert not dict(packed.read_masks(tmp_path / "packed"))
    sizes = [weight_bytes(tmp_path / name) for name in ("dense", "packed")]
    assert sizes[1] < 0.9 * sizes[0]
    packed.unpack(tmp_path / "packed", tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "dense")


def test_a_pruned_tensor_is_one_blob_under_its_own_name(packed_dir: Path) -> None:
    stored = load_file(packed_dir / "model.safetensors")
    assert stored["a.weight"].dtype == torch.uint8
    assert stored["a.weight"].ndim == 1
    assert bytes(stored["a.weight"].numpy()[:4]) == blob.MAGIC


def test_other_tensors_are_stored_as_they_are(dense_dir: Path, packed_dir: Path) -> None:
    dense = load_file(dense_dir / "model.safetensors")
    stored = load_file(packed_dir / "model.safetensors")
    assert torch.equal(stored["embed.weight"], dense["embed.weight"])
    assert torch.equal(stored["b.bias"], dense["b.bias"])


def test_the_config_says_how_it_is_packed_and_nothing_else(packed_dir: Path) -> None:
    config = json.loads((packed_dir / "config.json").read_bytes())
    assert config == CONFIG | {"quantization_config": {"quant_method": "pst-packed", "version": 2}}


def test_the_manifest_and_other_weights_are_not_copied(
    dense_dir: Path, masks: dict[str, Mask], tmp_path: Path
) -> None:
    for name in ("pst.json", "pytorch_model.bin"):
        (dense_dir / name).write_text("{}", encoding="utf-8")
    packed.write_packed(dense_dir, masks, tmp_path / "packed")
    assert content(tmp_path / "packed").keys() == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_masks_are_read_back(packed_dir: Path, masks: dict[str, Mask]) -> None:
    read = dict(packed.read_masks(packed_dir))
    assert read.keys() == masks.keys()
    assert all(np.array_equal(read[name], mask) for name, mask in masks.items())


def test_pruned_tensors_are_read_back_dense(dense_dir: Path, packed_dir: Path) -> None:
    read = dict(packed.read_tensors(packed_dir))
    with safe_open(dense_dir / "model.safetensors", framework="numpy") as file:
        assert read.keys() == {"a.weight", "b.weight"}
        assert all(np.array_equal(read[name], file.get_tensor(name)) for name in read)


def test_masks_are_read_without_torch(packed_dir: Path) -> None:
    code = (
        "import sys, pathlib; from pst_core.formats import packed;"
        "found = list(packed.read_masks(pathlib.Path(sys.argv[1])));"
        "assert len(found) == 2 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(packed_dir)], check=True)


def test_a_folder_that_holds_something_is_not_written_to(
    dense_dir: Path, masks: dict[str, Mask], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(FileExistsError):
        packed.write_packed(dense_dir, masks, tmp_path / "out")
    assert content(tmp_path / "out").keys() == {"mine"}


def test_an_empty_folder_is_written_to(
    dense_dir: Path, masks: dict[str, Mask], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    packed.write_packed(dense_dir, masks, tmp_path / "out")
    assert packed.is_packed(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "mask", "problem"),
    [
        ("c.weight", np.ones((16, 8), np.bool_), r"no tensors \['c.weight'\]"),
        ("a.weight", np.ones((8, 16), np.bool_), "Tensor a.weight: Cannot pack"),
        ("b.bias", np.ones(8, np.bool_), "Tensor b.bias is no float matrix"),
        ("embed.weight", np.zeros((5, 8), np.bool_), "embed.weight has pruned entries"),
    ],
    ids=["absent", "shape", "vector", "not zero"],
)
def test_a_mask_that_does_not_fit_leaves_no_folder(
    dense_dir: Path, tmp_path: Path, name: str, mask: Mask, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        packed.write_packed(dense_dir, {name: mask}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_pruned_negative_zero_is_not_dropped_in_silence(tmp_path: Path) -> None:
    weights = make_weights()
    masks = prune(weights)
    weights["a.weight"].view(-1)[int(np.flatnonzero(~masks["a.weight"])[0])] = -0.0
    write_folder(tmp_path / "dense", weights)
    with pytest.raises(ValueError, match=r"a\.weight has pruned entries"):
        packed.write_packed(tmp_path / "dense", masks, tmp_path / "out")


def test_a_tensor_that_would_read_as_a_blob_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "dense", {"table": torch.zeros(7, dtype=torch.uint8)})
    with pytest.raises(ValueError, match="as only blobs are"):
        packed.write_packed(tmp_path / "dense", {}, tmp_path / "out")


def test_a_packed_folder_is_not_packed_again(packed_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="packed already"):
        packed.write_packed(packed_dir, {}, tmp_path / "out")


def test_damage_names_the_tensor_and_the_file(packed_dir: Path, tmp_path: Path) -> None:
    stored = load_file(packed_dir / "model.safetensors")
    stored["b.weight"][-1] ^= 1
    save_file(stored, packed_dir / "model.safetensors")
    for read in (packed.read_masks, packed.read_tensors):
        with pytest.raises(CheckpointCorruptError, match=r"b\.weight in model\.safetensors"):
            list(read(packed_dir))
    with pytest.raises(CheckpointCorruptError, match=r"b\.weight in model\.safetensors"):
        packed.unpack(packed_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_weights_file_is_refused_by_name(packed_dir: Path) -> None:
    path = packed_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointCorruptError, match=r"packed/model\.safetensors"):
        list(packed.read_masks(packed_dir))


def test_a_missing_shard_is_refused_by_name(packed_dir: Path) -> None:
    (packed_dir / "model.safetensors").unlink()
    index = {"weight_map": {"a.weight": SHARD.format(1)}}
    (packed_dir / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match="model-00001-of-00002"):
        list(packed.read_masks(packed_dir))


@pytest.mark.parametrize("weight_map", [{"a": "../dense/model.safetensors"}, {}, ["a"], None])
def test_an_index_names_files_of_its_own_folder_only(packed_dir: Path, weight_map: object) -> None:
    (packed_dir / "model.safetensors").unlink()
    text = json.dumps({"weight_map": weight_map})
    (packed_dir / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match="own folder"):
        list(packed.read_masks(packed_dir))


def test_a_newer_folder_is_told_from_damage(packed_dir: Path) -> None:
    declare(packed_dir, {"quant_method": "pst-packed", "version": 3})
    with pytest.raises(CheckpointVersionError, match="version 3"):
        list(packed.read_masks(packed_dir))


def test_an_older_folder_is_read(packed_dir: Path, masks: dict[str, Mask]) -> None:
    declare(packed_dir, {"quant_method": "pst-packed", "version": 1})
    assert [name for name, _ in packed.read_masks(packed_dir)] == sorted(masks)


@pytest.mark.parametrize("version", [None, 0, "1"])
def test_a_version_that_never_was_is_refused(packed_dir: Path, version: object) -> None:
    declare(packed_dir, {"quant_method": "pst-packed", "version": version})
    with pytest.raises(CheckpointCorruptError, match="says version"):
        list(packed.read_masks(packed_dir))


def test_a_dense_folder_is_not_read_as_a_packed_one(dense_dir: Path) -> None:
    assert not packed.is_packed(dense_dir)
    with pytest.raises(CheckpointCorruptError, match="not packed"):
        list(packed.read_masks(dense_dir))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_config_is_refused_by_name(packed_dir: Path, text: str) -> None:
    (packed_dir / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match=r"config\.json"):
        list(packed.read_masks(packed_dir))


def test_a_folder_without_weights_is_refused(packed_dir: Path) -> None:
    shutil.copy(packed_dir / "config.json", packed_dir.with_name("config.json"))
    with pytest.raises(CheckpointCorruptError, match="cannot be read"):
        list(packed.read_masks(packed_dir.parent))
