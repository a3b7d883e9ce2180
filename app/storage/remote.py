"""Objects in a bucket, by the protocol of its provider; docs/decisions/0023 says how they get in.

What the methods promise is contract.py's, how long an answer is waited for client.py's.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from uuid import uuid4

import obstore

from app.settings import Settings
from app.storage.client import Client
from app.storage.contract import StorageError, Stored, StoredObject
from pst_core.points import reached

PIECE = 8 << 20  # bytes that are read at once, of each reader
PART = 16 << 20  # bytes that are written at once; more are an upload of several parts
PARTS = 10_000  # of an upload, at the most
AT_ONCE = 2  # parts on their way
CLAIM = ".writing"


class RemoteStorage:
    """Objects below a prefix of a bucket.

    Args:
        client: Of the bucket.
        spool: A folder for what is being written; nothing in it has a name.
        redirect: Whether clients may be sent to the bucket.
        link_seconds: How long a link to an object is good.
    """

    def __init__(
        self, client: Client, spool: Path, *, redirect: bool = True, link_seconds: float = 300
    ) -> None:
        self._client = client
        self._spool = spool
        self._redirect = redirect
        self._link_seconds = link_seconds

    @classmethod
    def of(cls, settings: Settings) -> "RemoteStorage":
        return cls(
            Client.of(settings),
            settings.scratch_dir,
            redirect=settings.storage_redirect,
            link_seconds=settings.storage_link_seconds,
        )

    @contextmanager
    def write(self, key: str, *, file_name: str | None = None) -> Iterator[StoredObject]:
        # The hash goes along with the first byte, so all of them must be here before.
        self._spool.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=self._spool) as file:
            stored = StoredObject(file)
            yield stored
            file.seek(0)
            reached("storage:written")
            writer = uuid4().hex
            attributes = {"sha256": stored.sha256, "writer": writer}
            if file_name is not None:
                attributes["Content-Disposition"] = f'attachment; filename="{file_name}"'
            self._create(key, file, stored.size, attributes)
            # What it says by now, not what it said while it was written.
            if self.look(key) != Stored(stored.size, stored.sha256, writer):
                raise StorageError("The storage has other bytes than it was given.")
            reached("storage:linked")

    def _create(self, key: str, file: IO[bytes], size: int, attributes: dict[str, str]) -> None:
        if size <= PART:
            self._put_new(key, file.read(), attributes)
            return
        # An upload in parts replaces what is there: of all who would make one, one alone may.
        claim = key + CLAIM
        self._put_new(claim, b"", {"writer": attributes["writer"]})
        try:
            self._put_parts(key, file, size, attributes)
        finally:
            # One that stays goes with its object.
            with suppress(StorageError):
                self._delete(claim)

    def _put_parts(self, key: str, file: IO[bytes], size: int, attributes: dict[str, str]) -> None:
        if self._find(key) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            with self._client.asking("write"):
                obstore.put(
                    self._client.store,
                    key,
                    file,
                    attributes=attributes,
                    use_multipart=True,
                    chunk_size=max(PART, -(-size // PARTS)),
                    max_concurrency=AT_ONCE,
                )
        except StorageError:
            # Perhaps it was its answer alone that got lost.
            if not self._is_mine(key, attributes):
                raise

    def _put_new(self, key: str, data: bytes, attributes: dict[str, str]) -> None:
        try:
            with self._client.asking("write"):
                obstore.put(self._client.store, key, data, mode="create", attributes=attributes)
        except (StorageError, FileExistsError):
            # Asked again after its answer got lost, it finds what it has written itself.
            if not self._is_mine(key, attributes):
                raise

    def _is_mine(self, key: str, attributes: dict[str, str]) -> bool:
        found = self._find(key)
        return found is not None and found.writer == attributes["writer"]

    def _find(self, key: str) -> Stored | None:
        try:
            return self.look(key)
        except FileNotFoundError:
            return None

    def look(self, key: str) -> Stored:
        with self._client.asking("find"):
            found = obstore.get(self._client.store, key, options={"head": True})
            attributes = found.attributes
            return Stored(found.meta["size"], attributes.get("sha256"), attributes.get("writer"))

    def link(self, key: str) -> str | None:
        if not self._redirect:
            return None
        return self._client.sign(key, timedelta(seconds=self._link_seconds))

    def place(self, key: str, path: Path) -> None:
        size = self.look(key).size
        with path.open("xb") as file:
            for piece in self.read(key, 0, size):
                file.write(piece)

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        for first in range(start, stop, PIECE):
            with self._client.asking("read"):
                piece = obstore.get_range(
                    self._client.store, key, start=first, end=min(first + PIECE, stop)
                )
            yield bytes(piece)

    def present_size(self, key: str, written: int) -> int:
        del key  # a log of a thousand parts would be asked for each
        return written

    def remove(self, key: str) -> None:
        for each in (key, key + CLAIM):
            self._delete(each)

    def _delete(self, key: str) -> None:
        try:
            with self._client.asking("remove"):
                obstore.delete(self._client.store, key)
        except FileNotFoundError:  # some say so
            return

    def keys_older_than(self, seconds: float) -> Iterator[str]:
        latest = time.time() - seconds
        with self._client.asking("list"):
            for page in obstore.list(self._client.store, chunk_size=1000):
                for each in page:
                    if each["last_modified"].timestamp() < latest:
                        yield each["path"].removesuffix(CLAIM)
