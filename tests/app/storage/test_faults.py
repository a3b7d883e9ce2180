"""A bucket that fails: in bounded time, with nothing torn, and without a word of the secret."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import Settings
from app.storage import Storage, StorageError
from tests.app.storage.test_contract import KEY, LARGE, content, put
from tests.bucket import KEY_ID, SECRET, Bucket


@pytest.mark.parametrize("status", ["500", "503"])
def test_a_passing_failure_is_not_noticed(remote: Storage, bucket: Bucket, status: str) -> None:
    bucket.fail(status, times=2)

    put(remote, b"data")

    assert content(remote) == b"data"


@pytest.mark.parametrize("do", ["500", "503", "hang"])
def test_a_lasting_failure_is_told_in_bounded_time(base: Settings, bucket: Bucket, do: str) -> None:
    storage = bucket.storage(base, storage_timeout_seconds=0.5)
    bucket.fail(do)

    with pytest.raises(StorageError):
        put(storage, b"data")
    with pytest.raises(StorageError):
        storage.look(KEY)

    bucket.heal()
    assert list(storage.keys_older_than(-60)) == []


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_lost_answer_is_no_lost_object(
    remote: Storage, bucket: Bucket, size: int, method: str
) -> None:
    # Of an upload in parts, the POST with an id is what ends it.
    bucket.fail("lose", method=method, matching="uploadId" if method == "POST" else "", times=1)

    put(remote, bytes(size))

    assert content(remote) == bytes(size)
    assert list(remote.keys_older_than(-60)) == [KEY], "what it was claimed by is gone"


def test_an_upload_whose_part_fails_leaves_nothing(remote: Storage, bucket: Bucket) -> None:
    bucket.fail("500", method="PUT", matching="partNumber=2")

    with pytest.raises(StorageError):
        put(remote, bytes(LARGE))

    bucket.heal()
    assert list(remote.keys_older_than(-60)) == []
    assert "<UploadId>" not in bucket.unfinished()


def test_bytes_that_are_not_those_that_were_given_are_noticed(
    base: Settings, remote: Storage, bucket: Bucket
) -> None:
    put(remote, b"right")
    before = remote.look(KEY)

    bucket.overwrite(base, KEY, b"wrong")

    assert remote.look(KEY).size == before.size
    assert remote.look(KEY).sha256 != before.sha256


@pytest.mark.parametrize(
    "ask",
    [
        lambda storage, _: storage.look(KEY),
        lambda storage, _: list(storage.read(KEY, 0, 1)),
        lambda storage, folder: storage.place(KEY, folder / "object"),
        lambda storage, _: put(storage, b"data"),
        lambda storage, _: put(storage, bytes(LARGE)),
        lambda storage, _: storage.remove(KEY),
        lambda storage, _: list(storage.keys_older_than(-60)),
    ],
    ids=["look", "read", "place", "write", "write in parts", "remove", "list"],
)
def test_without_its_bucket_no_object_is_lost_or_removed_but_the_storage_is_away(
    base: Settings, bucket: Bucket, tmp_path: Path, ask: Callable[[Storage, Path], object]
) -> None:
    storage = bucket.storage(base, storage_url="s3://no-such-bucket")

    with pytest.raises(StorageError):
        ask(storage, tmp_path)


@pytest.mark.parametrize("do", ["403", "500"])
def test_no_secret_is_told(
    remote: Storage, bucket: Bucket, do: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bucket.fail(do)

    with pytest.raises(StorageError) as caught:
        put(remote, b"data")

    told = caplog.text + "".join(traceback.format_exception(caught.value))
    assert do in caplog.text, "but what went wrong is"
    assert SECRET not in told
    assert KEY_ID not in told


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket/x",
        "s3:///x",
        "http://host/x",
        "s3://bucket/x?key=secret",
        "file://srv/secret",
        "file:secret",
        "file:",
    ],
)
def test_an_address_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must be file") as caught:
        Settings(storage_url=url)

    assert "secret" not in str(caught.value)
