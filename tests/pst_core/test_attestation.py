"""`verify` repeats what was attested of a finished checkpoint, and nothing changed passes."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pst_core.__main__ import cli
from pst_core.errors import CheckpointCorruptError, PstError, SparsityMissedError
from pst_core.formats.manifest import (
    read_manifest,
    read_sealed,
    write_manifest,
    write_sealed,
)
from pst_core.formats.packed import unpack, write_packed
from pst_core.verify import verify_checkpoint
from tests.pst_core.exports import WEIGHTS, Export, masks_of, run, sign

PRUNED = "bert.encoder.layer.1.attention.self.key.weight"
HYPER = {"epochs": 1, "batch_size": 16, "rank": 2, "score_rank": 2, "max_length": 32}
each_format = pytest.mark.parametrize("name", ["dense", "packed"])


def verified(folder: Path, **changes: object) -> Export:
    export = run(folder, folder / "out", changes={"hyperparameters": HYPER, **changes})
    export.verify()
    return export


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Compressed, verified, and not to be changed."""
    return verified(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return verified(tmp_path_factory.mktemp("rounded"), value_dtype="bfloat16")


@pytest.fixture
def copy(finished: Export, tmp_path: Path) -> Export:
    return finished.copy(tmp_path / "copy")


def check(export: Export, name: str) -> None:
    verify_checkpoint(export.out / name, export.sources)


@each_format
def test_what_nobody_touched_verifies(finished: Export, name: str) -> None:
    found = verify_checkpoint(finished.out / name, finished.sources)
    assert found == read_manifest(finished.out / name).attestation


@each_format
def test_every_tensor_is_recorded_in_dense_form(finished: Export, name: str) -> None:
    attestation = read_manifest(finished.out / name).attestation
    assert attestation is not None
    weights = load_file(finished.out / "dense" / WEIGHTS)
    assert {key: found.shape for key, found in attestation.tensors.items()} == {
        key: tuple(tensor.shape) for key, tensor in weights.items()
    }
    assert attestation.tensors[PRUNED].zeros == int((weights[PRUNED] == 0).sum())


def test_packed_and_dense_have_the_same_tensors(finished: Export) -> None:
    dense, packed = (
        verify_checkpoint(finished.out / name, finished.sources) for name in ("dense", "packed")
    )
    assert dense.tensors == packed.tensors


@each_format
def test_one_flipped_bit_in_any_file_is_found(finished: Export, name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(finished.out / name, folder)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for position in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            flipped = bytearray(whole)
            flipped[position] ^= 1
            path.write_bytes(flipped)
            with pytest.raises(PstError, match=path.name):
                verify_checkpoint(folder, finished.sources)
        path.write_bytes(whole)


def test_every_flipped_bit_of_the_manifest_is_found(tmp_path: Path) -> None:
    path = tmp_path / "pst.json"
    write_sealed(path, {"version": 1, "name": "ü", "files": {}})
    whole = path.read_bytes()
    assert read_sealed(path) == {"version": 1, "name": "ü", "files": {}}
    for position in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        with pytest.raises(CheckpointCorruptError, match=r"pst\.json"):
            read_sealed(path)


@pytest.mark.parametrize("file", ["config.json", WEIGHTS, "pst.json"])
def test_a_file_of_another_job_is_found(copy: Export, rounded: Export, file: str) -> None:
    if file == "config.json":  # both jobs have the same
        (copy.out / "packed" / file).write_bytes(b"{}")
    else:
        shutil.copyfile(rounded.out / "packed" / file, copy.out / "packed" / file)
    with pytest.raises(CheckpointCorruptError):
        check(copy, "packed")


def test_a_pruned_entry_set_to_a_value_is_found_under_true_hashes(copy: Export) -> None:
    weights = load_file(copy.out / "dense" / WEIGHTS)
    weights[PRUNED][tuple((weights[PRUNED] == 0).nonzero()[0])] = 1e-3
    save_file(weights, copy.out / "dense" / WEIGHTS, metadata={"format": "pt"})
    sign(copy.out / "dense")
    with pytest.raises(SparsityMissedError, match=PRUNED):
        check(copy, "dense")


@each_format
def test_another_kept_value_is_found_under_true_hashes(copy: Export, name: str) -> None:
    dense = copy.out / "dense"
    masks = masks_of(copy)
    weights = load_file(dense / WEIGHTS)
    weights[PRUNED][tuple((weights[PRUNED] != 0).nonzero()[0])] += 1e-3
    save_file(weights, dense / WEIGHTS, metadata={"format": "pt"})
    if name == "packed":
        manifest = read_manifest(copy.out / "packed")
        shutil.rmtree(copy.out / "packed")
        write_packed(dense, masks, copy.out / "packed")
        write_manifest(copy.out / "packed", manifest)
    sign(copy.out / name)
    with pytest.raises(CheckpointCorruptError, match=rf"{PRUNED}.*has other bits"):
        check(copy, name)


def test_what_was_never_verified_does_not_verify(copy: Export) -> None:
    folder = copy.out / "packed"
    write_manifest(folder, read_manifest(folder).model_copy(update={"attestation": None}))
    with pytest.raises(CheckpointCorruptError, match="never verified"):
        check(copy, "packed")


def test_rounded_values_verify_and_are_the_rounded_dense_ones(
    rounded: Export, tmp_path: Path
) -> None:
    check(rounded, "packed")
    unpack(rounded.out / "packed", tmp_path / "dense")
    found = load_file(tmp_path / "dense" / WEIGHTS)
    for name, tensor in load_file(rounded.out / "dense" / WEIGHTS).items():
        assert found[name].equal(tensor.bfloat16()), name
    assert json.loads((tmp_path / "dense" / "config.json").read_bytes())["dtype"] == "bfloat16"


def test_the_command_says_what_it_found(finished: Export) -> None:
    reference = f"file:{finished.sources.dataset.path}"
    command = ["verify", str(finished.out / "packed"), "--dataset", reference]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "verified: files" in result.stdout


def test_unpack_writes_the_dense_folder(finished: Export, tmp_path: Path) -> None:
    command = ["unpack", str(finished.out / "packed"), str(tmp_path / "out")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    dense = finished.out / "dense"
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (dense / WEIGHTS).read_bytes()
    assert (tmp_path / "out" / "config.json").read_bytes() == (dense / "config.json").read_bytes()


def test_unpack_refuses_altered_files(copy: Export, tmp_path: Path) -> None:
    (copy.out / "packed" / "tokenizer.json").write_bytes(b"{}")
    result = CliRunner().invoke(cli, ["unpack", str(copy.out / "packed"), str(tmp_path / "out")])
    assert isinstance(result.exception, CheckpointCorruptError)
    assert not (tmp_path / "out").exists()
