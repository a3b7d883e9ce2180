"""What was fetched once is not fetched again, and what is in use is not taken away."""

import hashlib
import os
from pathlib import Path

import pytest

from worker.fetching.cache import Cache
from worker.fetching.repository import RemoteFile


def remote(content: bytes) -> RemoteFile:
    return RemoteFile("a.bin", len(content), "sha256", hashlib.sha256(content).hexdigest())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", max_bytes=100)


def put(cache: Cache, folder: Path, content: bytes, *, age: int = 0) -> Path:
    """A file that was fetched some seconds ago, in use in its folder."""
    path = folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    cache.keep(remote(content), path)
    moment = path.stat().st_mtime - age
    os.utime(path, (moment, moment))
    return path


def kept(cache: Cache) -> set[bytes]:
    return {path.read_bytes() for path in cache.folder.iterdir()}


def take(cache: Cache, content: bytes, target: Path) -> bool:
    return cache.take(remote(content), target, lambda: None)


def test_what_was_kept_is_given_again(cache: Cache, tmp_path: Path) -> None:
    put(cache, tmp_path, b"weights").unlink()

    assert take(cache, b"weights", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"weights"
    assert not take(cache, b"others", tmp_path / "other")


def test_bytes_that_have_changed_are_given_to_nobody(cache: Cache, tmp_path: Path) -> None:
    put(cache, tmp_path, b"weights").write_bytes(b"WEIGHTS")

    assert not take(cache, b"weights", tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert kept(cache) == set()


def test_the_longest_unused_goes_first_and_no_more_than_has_to(
    cache: Cache, tmp_path: Path
) -> None:
    for age, content in enumerate((b"a" * 30, b"b" * 30, b"c" * 30)):
        put(cache, tmp_path, content, age=age).unlink()
    take(cache, b"c" * 30, tmp_path / "used")
    (tmp_path / "used").unlink()
    cache.make_room(35)

    assert kept(cache) == {b"a" * 30, b"c" * 30}


def test_what_is_in_use_stays(cache: Cache, tmp_path: Path) -> None:
    put(cache, tmp_path, b"a" * 60, age=9)
    put(cache, tmp_path, b"b" * 30).unlink()
    cache.make_room(100)

    assert kept(cache) == {b"a" * 60}


def test_two_workers_may_keep_the_same_file(cache: Cache, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        put(cache, tmp_path / name, b"weights")

    assert kept(cache) == {b"weights"}


def test_what_is_given_up_while_it_is_used_is_still_there_for_its_user(
    cache: Cache, tmp_path: Path
) -> None:
    path = put(cache, tmp_path, b"weights")
    (cache.folder / remote(b"weights").key).unlink()

    assert path.read_bytes() == b"weights"
