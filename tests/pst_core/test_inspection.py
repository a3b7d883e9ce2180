"""`inspect` counts what numpy counts, in every format, and broken folders are refused clearly."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from pst_core.__main__ import cli
from pst_core.errors import (
    CheckpointCorruptError,
    CheckpointVersionError,
    ModelNotFoundError,
    PstError,
    SparsityMissedError,
)
from pst_core.formats import blob, packed
from pst_core.formats.manifest import Manifest, write_manifest
from pst_core.formats.mask_coding import Mask
from pst_core.formats.zeros import TensorCount
from pst_core.inspection import Inspection, inspect
from tests.pst_core import sample_report

INDEX = "model.safetensors.index.json"
Damage = Callable[[Path], None]
SHARD = "model-0000{}-of-00002.safetensors"


def half_zero(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < 0.5, tensor, 0.0).to(dtype)


def write(folder: Path, tensors: dict[str, torch.Tensor], file: str = "model.safetensors") -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    return folder


def write_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    weight_map = {}
    for number, (name, tensor) in enumerate(tensors.items(), start=1):
        weight_map[name] = SHARD.format(number)
        write(folder, {name: tensor}, SHARD.format(number))
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder


def write_packed(folder: Path, values: torch.Tensor, mask: Mask) -> Path:
    """A packed folder of one matrix and a bias."""
    dense = write(folder.with_name("dense"), {"a.weight": values, "a.bias": torch.zeros(7)})
    (dense / "config.json").write_text("{}", encoding="utf-8")
    packed.write_packed(dense, {"a.weight": mask}, folder)
    return folder


def numpy_zeros(tensor: torch.Tensor) -> int:
    array = tensor.double().numpy()
    return array.size - int(np.count_nonzero(array))


def counts(found: Inspection) -> dict[str, TensorCount]:
    return {tensor.name: tensor for tensor in found.tensors}


def claim_of(matrices: list[dict[str, Any]]) -> Manifest:
    outcome = sample_report.outcome() | {"matrices": matrices, "sparsity": 0.8997}
    manifest = {"format": "dense", "outcome": outcome, "files": {}}
    return Manifest.model_validate_json(json.dumps(manifest))


def claimed(pruned: int, name: str = "a.weight") -> list[dict[str, Any]]:
    return [{"name": name, "shape": [6, 7], "pruned": pruned, "parts": [6]}]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float64, "F64"),
        (torch.float32, "F32"),
        (torch.float16, "F16"),
        (torch.bfloat16, "BF16"),
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.float8_e5m2, "F8_E5M2"),
        (torch.int8, "I8"),
        (torch.int32, "I32"),
        (torch.int64, "I64"),
        (torch.uint8, "U8"),
        (torch.bool, "BOOL"),
    ],
)
def test_zeros_of_every_dtype_are_those_of_numpy(
    tmp_path: Path, dtype: torch.dtype, name: str
) -> None:
    tensor = half_zero(13, 17).mul(20).abs().to(dtype)
    found = counts(inspect(write(tmp_path, {"a": tensor})))["a"]
    assert (found.dtype, found.entries, found.zeros) == (name, 221, numpy_zeros(tensor))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_negative_zero_is_a_zero(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([-0.0, 0.0, -1.0, 1.0], dtype=dtype)
    assert counts(inspect(write(tmp_path, {"a": tensor})))["a"].zeros == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_smallest_number_and_nan_are_no_zeros(tmp_path: Path, dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).smallest_normal / 2
    tensor = torch.tensor([smallest, torch.nan, torch.inf], dtype=dtype)
    assert counts(inspect(write(tmp_path, {"a": tensor})))["a"].zeros == 0


def test_an_integer_of_the_sign_bit_alone_is_no_zero(tmp_path: Path) -> None:
    tensor = torch.tensor([torch.iinfo(torch.int32).min, 0], dtype=torch.int32)
    assert counts(inspect(write(tmp_path, {"a": tensor})))["a"].zeros == 1


def test_a_tensor_larger_than_a_piece_is_counted_whole(tmp_path: Path) -> None:
    tensor = torch.ones((1 << 22) + 5, dtype=torch.int8)
    tensor[[0, 7, -1]] = 0
    assert counts(inspect(write(tmp_path, {"a": tensor})))["a"].zeros == 3


def test_several_tensors_have_each_their_own_count(tmp_path: Path) -> None:
    tensors = {f"t{n}": half_zero(5 + n, 3, seed=n) for n in range(4)}
    found = counts(inspect(write(tmp_path, tensors)))
    assert {name: count.zeros for name, count in found.items()} == {
        name: numpy_zeros(tensor) for name, tensor in tensors.items()
    }


def test_a_scalar_and_an_empty_tensor_are_counted(tmp_path: Path) -> None:
    found = counts(inspect(write(tmp_path, {"s": torch.tensor(0.0), "e": torch.empty(0, 3)})))
    assert (found["s"].entries, found["s"].zeros, found["s"].shape) == (1, 1, ())
    assert (found["e"].entries, found["e"].zeros, found["e"].sparsity) == (0, 0, 0.0)


def test_totals_are_the_sums(tmp_path: Path) -> None:
    tensors = {"a": half_zero(9, 5), "b": half_zero(4, 4, dtype=torch.bfloat16, seed=1)}
    totals = inspect(write(tmp_path, tensors)).totals
    zeros = sum(map(numpy_zeros, tensors.values()))
    assert (totals.tensors, totals.entries, totals.zeros) == (2, 61, zeros)
    assert (totals.sparsity, totals.bytes) == (zeros / 61, 45 * 4 + 16 * 2)


def test_a_dtype_that_is_not_counted_is_out_of_the_totals(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3), "scale": torch.ones(5).to(torch.float8_e8m0fnu)}
    found = inspect(write(tmp_path, tensors))
    assert counts(found)["scale"].zeros is None
    assert (found.totals.entries, found.totals.sparsity) == (3, 1.0)


def test_shards_are_counted_as_one_model(tmp_path: Path) -> None:
    tensors = {"a": half_zero(9, 5), "b": half_zero(4, 4, seed=1)}
    found = inspect(write_shards(tmp_path, tensors))
    assert found.files == (SHARD.format(1), SHARD.format(2))
    assert {name: (count.file, count.zeros) for name, count in counts(found).items()} == {
        "a": (SHARD.format(1), numpy_zeros(tensors["a"])),
        "b": (SHARD.format(2), numpy_zeros(tensors["b"])),
    }


def test_files_of_any_name_are_counted_where_no_name_is_the_usual(tmp_path: Path) -> None:
    write(tmp_path, {"lora": half_zero(3, 3)}, "adapter_model.safetensors")
    assert inspect(tmp_path).files == ("adapter_model.safetensors",)


def test_files_beside_the_model_are_named_and_not_counted(tmp_path: Path) -> None:
    write(tmp_path, {"a": half_zero(3, 3)})
    write(tmp_path, {"a": half_zero(3, 3)}, "consolidated.safetensors")
    found = inspect(tmp_path)
    assert (found.left_out, found.totals.tensors) == (("consolidated.safetensors",), 1)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float32, "F32"), (torch.float16, "F16"), (torch.bfloat16, "BF16")],
)
def test_a_packed_tensor_is_counted_by_mask_and_by_value(
    tmp_path: Path, dtype: torch.dtype, name: str
) -> None:
    mask = np.zeros((6, 7), np.bool_)
    mask[:2] = True
    values = torch.ones(6, 7, dtype=dtype)
    values[2:] = 0.0
    # Kept, and zero by value all the same.
    values[0, 0], values[0, 1] = 0.0, -0.0
    found = counts(inspect(write_packed(tmp_path / "packed", values, mask)))["a.weight"]
    assert (found.dtype, found.shape, found.pruned, found.zeros) == (name, (6, 7), 28, 30)


def test_a_packed_tensor_takes_the_bytes_that_are_stored(tmp_path: Path) -> None:
    mask = np.eye(6, 7, dtype=np.bool_)
    values = torch.eye(6, 7)
    found = inspect(write_packed(tmp_path / "packed", values, mask))
    stored = len(blob.pack(values.numpy(), mask))
    assert (counts(found)["a.weight"].bytes, counts(found)["a.bias"].bytes) == (stored, 28)
    assert (found.packed, found.totals.pruned, found.totals.zeros) == (True, 36, 43)


def test_bytes_in_one_dimension_are_no_packed_tensor_elsewhere(tmp_path: Path) -> None:
    found = inspect(write(tmp_path, {"a": torch.tensor([0, 1, 2], dtype=torch.uint8)}))
    assert (counts(found)["a"].zeros, counts(found)["a"].pruned) == (1, None)


def test_without_pst_json_there_is_no_claim(tmp_path: Path) -> None:
    found = inspect(write(tmp_path, {"a": torch.zeros(3)}))
    assert found.claim is None
    found.require_claim()


def test_asked_and_claimed_stand_beside_what_was_counted(tmp_path: Path) -> None:
    tensor = half_zero(6, 7)
    write_manifest(write(tmp_path, {"a.weight": tensor}), claim_of(claimed(numpy_zeros(tensor))))
    found = inspect(tmp_path)
    assert found.claim is not None
    assert (found.claim.asked, found.claim.claimed) == (0.9, 0.8997)
    assert found.claim.counted == numpy_zeros(tensor) / 42
    found.require_claim()


def test_fewer_zeros_than_claimed_are_an_error_that_names_the_matrix(tmp_path: Path) -> None:
    write_manifest(write(tmp_path, {"a.weight": torch.ones(6, 7)}), claim_of(claimed(5)))
    with pytest.raises(SparsityMissedError, match=r"a\.weight has 0 zeros, not 5"):
        inspect(tmp_path).require_claim()


def test_more_zeros_by_value_than_claimed_are_none(tmp_path: Path) -> None:
    write_manifest(write(tmp_path, {"a.weight": torch.zeros(6, 7)}), claim_of(claimed(5)))
    inspect(tmp_path).require_claim()


def test_another_mask_than_claimed_is_an_error(tmp_path: Path) -> None:
    folder = write_packed(tmp_path / "packed", torch.eye(6, 7), np.eye(6, 7, dtype=np.bool_))
    write_manifest(folder, claim_of(claimed(35)))
    with pytest.raises(SparsityMissedError, match=r"a\.weight has 36 zeros, not 35"):
        inspect(folder).require_claim()


def test_claimed_matrices_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    claims = [*claimed(1, "b.weight"), *claimed(1, "c.weight"), *claimed(1, "d.weight")]
    write_manifest(write(tmp_path, {"a.weight": torch.zeros(6, 7)}), claim_of(claims))
    with pytest.raises(SparsityMissedError, match=r"no b\.weight of shape .*, and 2 more"):
        inspect(tmp_path).require_claim()


def truncate_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def truncate_weights(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def scribble(path: Path) -> None:
    path.write_bytes((8).to_bytes(8, "little") + b"not json" + path.read_bytes())


def make_a_folder_of_it(path: Path) -> None:
    path.unlink()
    path.mkdir()


BREAKAGES: list[Damage] = [truncate_header, truncate_weights, empty, lengthen_header, scribble]


@pytest.mark.parametrize("damage", [*BREAKAGES, make_a_folder_of_it])
def test_a_broken_file_is_named_with_a_remedy(tmp_path: Path, damage: Damage) -> None:
    path = write(tmp_path, {"a": torch.zeros(3)}, "other.safetensors") / "other.safetensors"
    damage(path)
    with pytest.raises(
        CheckpointCorruptError, match=r"other\.safetensors cannot be read"
    ) as caught:
        inspect(tmp_path)
    assert caught.value.remedy == "Copy or download it again."


def test_a_broken_packed_tensor_is_named(tmp_path: Path) -> None:
    folder = write_packed(tmp_path / "packed", torch.eye(6, 7), np.eye(6, 7, dtype=np.bool_))
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[content.index(b"PSTB") + 30] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointCorruptError, match=r"a\.weight in model\.safetensors"):
        inspect(folder)


def test_a_packed_folder_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a": torch.zeros(3)})
    declared = {"quantization_config": {"quant_method": "pst-packed", "version": 99}}
    (folder / "config.json").write_text(json.dumps(declared), encoding="utf-8")
    with pytest.raises(CheckpointVersionError, match="Upgrade"):
        inspect(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": torch.zeros(3), "b": torch.zeros(3)})
    (tmp_path / SHARD.format(2)).unlink()
    with pytest.raises(CheckpointCorruptError, match=SHARD.format(2)):
        inspect(tmp_path)


def test_an_index_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"weight_map": {"a": "../secret.safetensors"}})
    (tmp_path / INDEX).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match="names no files of its own folder"):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "pst.json"])
def test_a_broken_document_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path, {"a": torch.zeros(3)}) / name).write_bytes(b"{")
    with pytest.raises(CheckpointCorruptError, match=name):
        inspect(tmp_path)


def test_a_folder_without_weights_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelNotFoundError, match="has no safetensors files") as caught:
        inspect(tmp_path)
    assert "safetensors first" in caught.value.remedy


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no folder .*absent") as caught:
        inspect(tmp_path / "absent")
    assert caught.value.remedy


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pst_core", "inspect", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("damage", [None, truncate_header])
def test_failures_end_with_1_and_no_traceback(tmp_path: Path, damage: Damage | None) -> None:
    folder = tmp_path / "folder"
    if damage:
        damage(write(folder, {"a": torch.zeros(3)}) / "model.safetensors")
    finished = run(str(folder))
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("pst_core: ")
    assert "Traceback" not in finished.stderr


def test_json_is_parsed_by_programs(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a": torch.tensor([0.0, 1.0, -0.0])})
    found = json.loads(CliRunner().invoke(cli, ["inspect", str(folder), "--json"]).stdout)
    assert found["totals"] == {
        "tensors": 1, "entries": 3, "zeros": 2, "pruned": 0, "sparsity": 2 / 3, "bytes": 12,
    }  # fmt: skip
    assert Inspection.model_validate(found, strict=False) == inspect(folder)


def test_the_table_has_a_row_for_each_tensor_and_the_totals(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.zeros(3, 5), "b": torch.ones(17)}
    result = CliRunner().invoke(cli, ["inspect", str(write(tmp_path, tensors))])
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    assert ["a.weight", "F32", "3×5", "15", "15", "100.0000%", "60"] in rows
    assert ["2 tensors", "", "", "32", "15", "46.8750%", "128"] in rows
    assert "no pst.json to compare with" in result.stdout


def test_the_table_of_a_packed_folder_has_the_zeros_by_mask(tmp_path: Path) -> None:
    folder = write_packed(tmp_path / "packed", torch.eye(6, 7), np.eye(6, 7, dtype=np.bool_))
    result = CliRunner().invoke(cli, ["inspect", str(folder)])
    assert "pruned by mask" in result.stdout
    assert any(line.rstrip(" │").endswith(" 36") for line in result.stdout.splitlines())


def test_a_contradiction_is_an_error_after_the_table(tmp_path: Path) -> None:
    write_manifest(write(tmp_path, {"a.weight": torch.ones(6, 7)}), claim_of(claimed(5)))
    result = CliRunner().invoke(cli, ["inspect", str(tmp_path)])
    assert "asked 90.0000%, pst.json says 89.9700%, counted 0.0000%" in result.stdout
    assert isinstance(result.exception, PstError)


def test_a_name_cannot_move_the_terminal(tmp_path: Path) -> None:
    folder = write(tmp_path, {"\x1b[2Jevil[bold]": torch.zeros(1)})
    result = CliRunner().invoke(cli, ["inspect", str(folder)])
    assert "\x1b" not in result.stdout
    assert r"\x1b[2Jevil[bold]" in result.stdout


def test_it_does_not_load_torch(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a": torch.zeros(3)})
    program = (
        "import sys; from pst_core.__main__ import cli\n"
        f"cli(['inspect', {str(folder)!r}], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
