"""An adapter and a base model become the dense folder again; another base is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pst_core.errors import (
    BaseMismatchError,
    CheckpointCorruptError,
)
from pst_core.formats import adapter
from pst_core.formats.adapter_tensors import Update
from tests.pst_core.formats import plain_adapter
from tests.pst_core.formats.adapter_case import MATRIX, REFERENCE, Case, make_case


def content(folder: Path) -> dict[str, bytes]:
    """All files but a manifest and weights in another form."""
    others = ("pst.json", "pytorch_model.bin")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in others}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_adapter_and_base_give_the_dense_folders_files(tmp_path: Path, dtype: torch.dtype) -> None:
    case = make_case(tmp_path, dtype=dtype)
    adapter.rebuild(case.adapter_dir, case.base, tmp_path / "again")
    assert content(tmp_path / "again") == content(case.dense_dir)


def test_shards_come_back_as_shards(tmp_path: Path) -> None:
    case = make_case(tmp_path, shards=2)
    adapter.rebuild(case.adapter_dir, case.base, tmp_path / "again")
    assert content(tmp_path / "again") == content(case.dense_dir)


def test_only_what_differs_from_the_base_is_stored(case: Case) -> None:
    assert load_file(case.file).keys() == {
        f"{MATRIX}:U", f"{MATRIX}:V", f"{MATRIX}:mask",
        "net.b.weight:U", "net.b.weight:V", "net.b.weight:mask",
        "net.norm.weight", "head.bias", "header.sha256",
    }  # fmt: skip


def test_the_other_files_are_copied_but_for_the_manifest_and_other_weights(case: Case) -> None:
    assert {path.name for path in case.adapter_dir.iterdir()} == {
        "adapter.safetensors",
        "config.json",
        "tokenizer.json",
    }
    for name in ("config.json", "tokenizer.json"):
        assert (case.adapter_dir / name).read_bytes() == (case.dense_dir / name).read_bytes()


def test_the_same_model_gives_the_same_bytes(case: Case, tmp_path: Path) -> None:
    case.write_again(tmp_path / "other")
    assert content(tmp_path / "other") == content(case.adapter_dir)


def test_a_reader_made_from_the_documentation_reads_it(case: Case) -> None:
    base = {name: tensor.numpy() for name, tensor in case.base.items()}
    dense = plain_adapter.rebuild(case.file, base)
    expected = load_file(case.dense_dir / "model.safetensors")
    assert dense.keys() == expected.keys()
    assert all(np.array_equal(dense[name], expected[name].numpy()) for name in dense)


def test_a_file_written_by_the_documentation_is_read(case: Case) -> None:
    expected = case.read()
    contents, arrays = plain_adapter.read_file(case.file)
    plain_adapter.rewrite(case.file, contents, arrays)
    found = case.read()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_base_may_have_the_prefix_of_a_model_with_a_head(case: Case) -> None:
    with adapter.opened(case.adapter_dir) as opened:
        dense = opened.over({f"net.{name}": tensor for name, tensor in case.base.items()})
        assert dense.tensor(MATRIX).shape == (3, 5)


def test_a_base_may_be_held_in_another_precision(tmp_path: Path) -> None:
    case = make_case(tmp_path, dtype=torch.float16)
    with adapter.opened(case.adapter_dir) as opened:
        dense = opened.over({name: tensor.float() for name, tensor in case.base.items()})
        expected = load_file(case.dense_dir / "model.safetensors")
        assert all(torch.equal(dense.tensor(name), expected[name]) for name in expected)


def test_what_is_read_shares_no_memory_with_the_base(case: Case) -> None:
    before = {name: tensor.clone() for name, tensor in case.base.items()}
    for tensor in case.read().values():
        tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in case.base.items())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (MATRIX, lambda update: Update(update.factors, ~update.mask)),
        (MATRIX, lambda update: Update(replace(update.factors, beta=0.2), update.mask)),
        (MATRIX, lambda update: Update(update.factors, update.mask.T)),
        (MATRIX, lambda update: Update(update.factors.transposed(), update.mask)),
        ("net.c.weight", lambda update: update),
        ("head.bias", lambda update: update),
    ],
    ids=["mask", "factors", "mask's shape", "factors' shape", "absent", "not in the base"],
)  # fmt: skip
def test_an_update_that_does_not_make_the_dense_tensor_leaves_no_folder(
    case: Case, tmp_path: Path, name: str, change: Callable[[Update], Update]
) -> None:
    updates = {**case.updates, name: change(case.updates[MATRIX])}
    with pytest.raises(ValueError, match=name):
        adapter.write_adapter(
            case.dense_dir, case.base, updates, tmp_path / "out", reference=REFERENCE
        )
    assert {path.name for path in tmp_path.iterdir()} == {"dense", "adapter"}


def test_a_folder_that_holds_something_is_not_written_to(case: Case, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(FileExistsError):
        case.write_again(tmp_path / "out")
    with pytest.raises(FileExistsError):
        adapter.rebuild(case.adapter_dir, case.base, tmp_path / "out")
    assert content(tmp_path / "out").keys() == {"mine"}


@pytest.mark.parametrize(
    "change",
    [
        {"a.weight": torch.zeros(3, 5)},
        {"a.weight": torch.zeros(5, 3)},
        {"embed.weight": torch.zeros(7, 5, dtype=torch.complex64)},
        {"embed.weight": torch.zeros(7, 5, dtype=torch.int32)},
    ],
    ids=["values", "shape", "unknown dtype", "integers"],
)
def test_another_base_is_refused_with_both_hashes_and_the_right_ones_name(
    case: Case, change: dict[str, Tensor]
) -> None:
    asked = plain_adapter.read_file(case.file)[0]["base"]["sha256"]
    with (
        adapter.opened(case.adapter_dir) as opened,
        pytest.raises(BaseMismatchError, match=rf"{asked}; .* have [0-9a-f]{{64}}\..*{REFERENCE}"),
    ):
        opened.over({**case.base, **change})


def test_one_bit_makes_another_base(case: Case) -> None:
    changed = case.base["embed.weight"].clone()
    changed.view(torch.int32)[6, 4] ^= 1
    with adapter.opened(case.adapter_dir) as opened, pytest.raises(BaseMismatchError):
        opened.over({**case.base, "embed.weight": changed})


def test_a_base_that_lacks_a_tensor_is_refused(case: Case) -> None:
    base = {name: tensor for name, tensor in case.base.items() if name != "embed.weight"}
    with adapter.opened(case.adapter_dir) as opened, pytest.raises(BaseMismatchError):
        opened.over(base)


def test_what_the_adapter_replaces_may_differ_in_the_base(case: Case) -> None:
    with adapter.opened(case.adapter_dir) as opened:
        dense = opened.over({**case.base, "norm.weight": torch.zeros(5)})
        assert torch.equal(dense.tensor("net.norm.weight"), case.base["norm.weight"] + 1)


def test_a_refused_base_leaves_no_folder(case: Case, tmp_path: Path) -> None:
    with pytest.raises(BaseMismatchError):
        adapter.rebuild(case.adapter_dir, {}, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"dense", "adapter"}


@pytest.mark.parametrize("file", ["../dense/model.safetensors", "..", "config.json", "", 1])
def test_an_index_names_weight_files_of_its_own_folder_only(tmp_path: Path, file: object) -> None:
    case = make_case(tmp_path, shards=2)
    path = case.adapter_dir / "model.safetensors.index.json"
    index = json.loads(path.read_bytes())
    index["weight_map"]["head.bias"] = file
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match="names no file for head"):
        adapter.rebuild(case.adapter_dir, case.base, tmp_path / "out")


@pytest.mark.parametrize("weight_map", [None, [], {}, {"head.bias": "model.safetensors"}])
def test_an_index_names_every_tensor(tmp_path: Path, weight_map: object) -> None:
    case = make_case(tmp_path, shards=2)
    path = case.adapter_dir / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match="names other tensors"):
        adapter.rebuild(case.adapter_dir, case.base, tmp_path / "out")
