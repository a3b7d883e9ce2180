"""What every storage does: objects appear whole or not at all, and never in others' place."""

import hashlib
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from app.storage import Storage
from app.storage.remote import PART

KEY = "prj/job/a1/art"
LARGE = PART + 1  # sent to a bucket in parts


def put(storage: Storage, data: bytes, key: str = KEY) -> str:
    with storage.write(key, file_name="job-packed.tar") as stored:
        stored.write(data)
    return stored.sha256


def content(storage: Storage, key: str = KEY) -> bytes:
    return b"".join(storage.read(key, 0, storage.look(key).size))


@pytest.mark.parametrize("size", [0, 13, LARGE])
def test_an_object_has_the_bytes_that_were_written(storage: Storage, size: int) -> None:
    data = bytes(size)

    sha256 = put(storage, data)

    assert sha256 == hashlib.sha256(data).hexdigest()
    assert content(storage) == data


def test_an_object_is_not_seen_before_it_is_whole(storage: Storage) -> None:
    with storage.write(KEY) as stored:
        stored.write(b"half")
        with pytest.raises(FileNotFoundError):
            storage.look(KEY)


def test_a_failed_write_leaves_nothing(storage: Storage) -> None:
    with suppress(RuntimeError), storage.write(KEY) as stored:
        stored.write(b"half")
        raise RuntimeError

    assert list(storage.keys_older_than(-60)) == []


@pytest.mark.parametrize("size", [6, LARGE])
def test_an_object_is_never_overwritten(storage: Storage, size: int) -> None:
    put(storage, b"first")

    with pytest.raises(FileExistsError):
        put(storage, b"0" * size)

    assert content(storage) == b"first"
    assert list(storage.keys_older_than(-60)) == [KEY]


@pytest.mark.parametrize("size", [10, LARGE])
def test_of_many_that_write_at_once_one_wins(storage: Storage, size: int) -> None:
    at_once, won = threading.Barrier(3), list[bytes]()

    def write(data: bytes) -> None:
        at_once.wait(60)
        with suppress(OSError), storage.write(KEY) as stored:
            stored.write(data)
        with suppress(OSError):
            if content(storage) == data:
                won.append(data)

    threads = [threading.Thread(target=write, args=(bytes([n]) * size,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert content(storage) == won[0]


def test_an_object_can_be_read_from_anywhere_to_anywhere(storage: Storage) -> None:
    put(storage, b"0123456789")

    assert b"".join(storage.read(KEY, 3, 7)) == b"3456"
    assert b"".join(storage.read(KEY, 7, 7)) == b""


def test_an_object_can_be_had_as_a_file(storage: Storage, tmp_path: Path) -> None:
    put(storage, b"a,b\n")

    storage.place(KEY, tmp_path / "data.csv")

    assert (tmp_path / "data.csv").read_bytes() == b"a,b\n"


def test_a_lost_object_is_not_an_empty_one(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.look(KEY)
    with pytest.raises(FileNotFoundError):
        list(storage.read(KEY, 0, 1))


def test_removing_twice_is_removing_once(storage: Storage) -> None:
    put(storage, b"x")

    storage.remove(KEY)
    storage.remove(KEY)

    assert list(storage.keys_older_than(-60)) == []


def test_objects_are_listed_once_they_have_lain_long_enough(storage: Storage) -> None:
    put(storage, b"x")

    assert list(storage.keys_older_than(-60)) == [KEY]
    assert list(storage.keys_older_than(60)) == []
