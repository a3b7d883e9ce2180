"""Objects appear whole or not at all, and never in the place of others."""

import hashlib
from contextlib import suppress
from pathlib import Path

import pytest

from app.storage import LocalStorage


def files(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]


def test_an_object_has_the_size_and_hash_of_what_was_written(tmp_path: Path) -> None:
    with LocalStorage(tmp_path).write("p/j/a1/x.tar") as stored:
        stored.write(b"half and ")
        stored.write(b"half")

    assert LocalStorage(tmp_path).path("p/j/a1/x.tar").read_bytes() == b"half and half"
    assert stored.size == 13
    assert stored.sha256 == hashlib.sha256(b"half and half").hexdigest()


def test_an_object_is_not_seen_before_it_is_whole(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with storage.write("x") as stored:
        stored.write(b"half")
        assert not storage.path("x").exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with suppress(RuntimeError), LocalStorage(tmp_path).write("x") as stored:
        stored.write(b"half")
        raise RuntimeError

    assert files(tmp_path) == []


def test_an_object_is_never_overwritten(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with storage.write("x") as stored:
        stored.write(b"first")

    with pytest.raises(FileExistsError), storage.write("x") as stored:
        stored.write(b"second")

    assert storage.path("x").read_bytes() == b"first"
    assert files(tmp_path) == ["x"]
