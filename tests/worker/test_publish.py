"""Archives depend on names and bytes alone, and hold nothing but regular files."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from app.storage import StoredObject
from worker.publish import OutputError, write_archive


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "config.json").write_text("{}")
    return folder


def archive(folder: Path) -> tuple[bytes, list[dict[str, str | int]]]:
    buffer = io.BytesIO()
    told = write_archive(folder, "job_1-packed", StoredObject(buffer), on_read=lambda: None)
    return buffer.getvalue(), told["files"]


def test_the_archive_holds_the_files_under_its_own_name(folder: Path) -> None:
    content, files = archive(folder)

    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        names = tar.getnames()
        weights = tar.extractfile("job_1-packed/model.safetensors")
        assert weights is not None
        data = weights.read()
    assert names == ["job_1-packed/config.json", "job_1-packed/model.safetensors"]
    assert data == b"weights" * 1000
    assert files[1] == {
        "name": "model.safetensors",
        "size": 7000,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_times_modes_and_the_order_of_writing_do_not_change_the_bytes(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    for name in ("config.json", "model.safetensors"):
        (other / name).write_bytes((folder / name).read_bytes())
        (other / name).chmod(0o600)
        os.utime(other / name, (1, 1))

    assert archive(folder) == archive(other)


def test_an_archive_has_no_owner_and_no_time(folder: Path) -> None:
    content, _ = archive(folder)

    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        facts = {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.mode) for m in tar}
    assert facts == {(0, 0, "", "", 0, 0o644)}


def test_a_planted_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    (folder / "vocab.txt").symlink_to(secret)

    with pytest.raises(OutputError, match="symbolic link"):
        archive(folder)


def test_a_file_that_has_another_name_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    (folder / "vocab.txt").hardlink_to(secret)

    with pytest.raises(OutputError, match="not a regular file"):
        archive(folder)


def test_a_pipe_is_refused_and_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "vocab.txt")

    with pytest.raises(OutputError, match="not a regular file"):
        archive(folder)


def test_a_linked_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)

    with pytest.raises(OutputError, match=r"[Nn]ot a directory|symbolic"):
        archive(tmp_path / "link")
