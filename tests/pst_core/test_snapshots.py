"""Snapshots on disk: whole or not there, and refused for any bit that is not as it was written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pst_core.errors import ForeignSnapshotError, SnapshotError
from pst_core.formats.manifest import read_sealed, write_sealed
from pst_core.snapshots import MANIFEST, Contents, SnapshotFolder

NAME = "step-00000007"
STATE = {"a third": 1 / 3, "none": None}
TENSORS: dict[str, dict[str, Tensor]] = {
    "parameters": {
        "w": torch.tensor([[1.5, -0.0], [float("nan"), 1e-40]]),
        "empty": torch.empty(0),
    },
    "masks": {"bits": torch.tensor([3, 255], dtype=torch.uint8)},
    "baseline": {},
}
CONTENTS = Contents(state=STATE, tensors=TENSORS)
FILES = ("parameters.safetensors", "masks.safetensors", "state.json", MANIFEST)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with one snapshot."""
    SnapshotFolder(tmp_path / "snapshots").write(7, CONTENTS)
    return tmp_path / "snapshots"


def bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    return tensor.dtype, tensor.shape, tensor.numpy().tobytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_snapshot_comes_back_bit_for_bit(path: Path) -> None:
    found = SnapshotFolder(path).read(NAME)
    assert found.state == STATE
    groups = {group: members for group, members in TENSORS.items() if members}
    assert found.tensors.keys() == groups.keys()
    for group, members in groups.items():
        assert {name: bits(each) for name, each in found.tensors[group].items()} == {
            name: bits(each) for name, each in members.items()
        }


def test_a_snapshot_is_one_flat_folder_without_pickles(path: Path) -> None:
    assert names(path) == [NAME]
    assert names(path / NAME) == sorted(FILES)


def test_what_was_read_outlives_its_folder(path: Path) -> None:
    found = SnapshotFolder(path).read(NAME)
    shutil.rmtree(path)
    found.tensors["masks"]["bits"].add_(1)
    assert found.tensors["masks"]["bits"].tolist() == [4, 0]


def test_the_newest_comes_first_however_many_digits_it_has(path: Path) -> None:
    for step in (1_000_000_000, 99_999_999):
        (path / f"step-{step}").mkdir()
    assert SnapshotFolder(path).names() == ["step-1000000000", "step-99999999", NAME]


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    for step in (3, 5, 9, 10):
        folder.write(step, CONTENTS)
    assert names(tmp_path) == ["step-00000009", "step-00000010"]


def test_the_one_that_was_gone_on_from_is_kept_beside_the_next(path: Path) -> None:
    folder = SnapshotFolder(path)
    folder.accept(NAME)
    folder.write(9, CONTENTS)
    assert names(path) == [NAME, "step-00000009"]


def test_one_that_was_not_accepted_goes_with_the_next(path: Path) -> None:
    SnapshotFolder(path).write(5, CONTENTS)
    assert names(path) == ["step-00000005"]


def test_a_strangers_snapshot_stays(path: Path) -> None:
    folder = SnapshotFolder(path)
    folder.leave_alone(NAME)
    for step in (8, 9, 10):
        folder.write(step, CONTENTS)
    assert names(path) == [NAME, "step-00000009", "step-00000010"]


def test_one_that_is_in_the_way_is_replaced(path: Path) -> None:
    (path / NAME / MANIFEST).unlink()
    folder = SnapshotFolder(path)
    folder.write(7, CONTENTS)
    assert folder.read(NAME).state == STATE
    assert names(path) == [NAME]


def test_what_was_never_finished_is_removed_by_the_next_process(path: Path) -> None:
    (path / ".step-00000004.partial").mkdir()
    (path / ".step-00000004.partial" / "state.json").write_bytes(b"{")
    SnapshotFolder(path)
    assert names(path) == [NAME]


def test_a_failed_write_leaves_nothing(path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        SnapshotFolder(path).write(8, Contents(state={"loss": float("nan")}, tensors={}))
    assert names(path) == [NAME]


@pytest.mark.parametrize("file", FILES)
def test_any_flipped_bit_is_refused_with_the_file(path: Path, file: str) -> None:
    whole = (path / NAME / file).read_bytes()
    for bit in range(0, 8 * len(whole), 61):
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        (path / NAME / file).write_bytes(spoiled)
        with pytest.raises(SnapshotError, match=file):
            SnapshotFolder(path).read(NAME)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_missing_or_empty_file_is_refused(
    path: Path, file: str, spoil: Callable[[Path], object]
) -> None:
    spoil(path / NAME / file)
    with pytest.raises(SnapshotError, match=file):
        SnapshotFolder(path).read(NAME)


@pytest.mark.parametrize("file", FILES)
def test_a_truncated_file_is_refused(path: Path, file: str) -> None:
    whole = (path / NAME / file).read_bytes()
    (path / NAME / file).write_bytes(whole[:-1])
    with pytest.raises(SnapshotError, match=file):
        SnapshotFolder(path).read(NAME)


def test_one_of_a_newer_release_is_somebody_elses(path: Path) -> None:
    manifest = path / NAME / MANIFEST
    write_sealed(manifest, read_sealed(manifest) | {"version": 2})
    with pytest.raises(ForeignSnapshotError, match="version 2"):
        SnapshotFolder(path).read(NAME)


def test_the_manifest_lists_every_other_file_with_its_size(path: Path) -> None:
    document = json.loads((path / NAME / MANIFEST).read_bytes())
    sizes = {name: entry["size"] for name, entry in document["files"].items()}
    assert sizes == {
        file: (path / NAME / file).stat().st_size for file in FILES if file != MANIFEST
    }
