"""The offsets of files, against what Python's own reader finds in a real archive."""

import os
import tarfile
from contextlib import suppress
from pathlib import Path

from app.artifacts import parts
from app.artifacts.tables import Artifact
from app.storage import StoredObject
from worker.publish import write_archive

ROOT = "job_x-dense"
NAMES = (
    "a.json",
    "empty",
    "full-block",
    "model-00001-of-00002.safetensors",
    # Neither fits into a plain header.
    "n" * 200 + ".json",
    "straße 文字.txt",
)


class Head:
    """Keeps the first bytes alone."""

    kept = b""

    def write(self, data: bytes, /) -> int:
        self.kept = (self.kept + data)[:4096]
        if len(self.kept) == 4096:
            raise InterruptedError
        return len(data)


def test_offsets_are_those_of_the_archive(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(os.urandom(0 if name == "empty" else 512 + 300 * number))
    (folder / "full-block").write_bytes(bytes(1024))

    artifact, archive = _stored(folder, tmp_path / "stored")

    with tarfile.open(archive, "r:") as tar:
        expected = [(member.name, member.offset_data, member.size) for member in tar]
    found = [(f"{ROOT}/{part.name}", part.start, part.size) for part in parts.files(artifact)]
    assert len(found) == len(NAMES)
    assert found == expected


def test_a_file_that_needs_more_digits_than_a_plain_header_has_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    size = 8**11 + 5  # 8 GiB and a bit; nobody writes them, neither here nor on the disk
    with (folder / "large").open("wb") as file:
        file.truncate(size)

    head = Head()
    with suppress(InterruptedError):
        write_archive(folder, ROOT, StoredObject(head), on_read=lambda: None)
    artifact = _artifact(size, [{"name": "large", "size": size, "sha256": "00" * 32}])

    (part,) = parts.files(artifact)

    header = tarfile.TarInfo.frombuf(head.kept[part.start - 512 : part.start], "utf-8", "strict")
    assert header.name == f"{ROOT}/large"


def _stored(folder: Path, path: Path) -> tuple[Artifact, Path]:
    with path.open("wb") as file:
        stored = StoredObject(file)
        found = write_archive(folder, ROOT, stored, on_read=lambda: None)
    return _artifact(stored.size, found["files"]), path


def _artifact(size: int, files: list[dict[str, str | int]]) -> Artifact:
    return Artifact(
        id="art_x",
        name=f"{ROOT}.tar",
        storage_key="k",
        size=size,
        sha256="00" * 32,
        files=files,
    )
