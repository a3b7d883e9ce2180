"""A part of an object elsewhere: looked at before it is sent, and sent in pieces or linked to.

It is not hashed here: that would read all of it. The bucket vouches for what it was given, with
the hash that it was given too.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from anyio.to_thread import run_sync
from starlette.responses import Response, StreamingResponse

from app.artifacts.conditions import Wanted
from app.artifacts.damage import corrupt, gone
from app.artifacts.parts import Part
from app.storage import Storage


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """Of one request."""

    part: Part
    storage: Storage

    @classmethod
    async def found(cls, storage: Storage, part: Part) -> "RemoteSource":
        """Look at the object, if it has the length and the hash that were published.

        Raises:
            Problem: It has not.
            StorageError: The storage does not answer.
        """
        try:
            stored = await run_sync(storage.look, part.storage_key)
        except FileNotFoundError as error:
            raise gone(part) from error
        if stored.size != part.stored_size:
            raise corrupt(part, f"it has {stored.size} bytes, not {part.stored_size}")
        if stored.sha256 != part.stored_sha256:
            reason = f"its SHA-256 is said to be {stored.sha256}, not {part.stored_sha256}"
            raise corrupt(part, reason)
        return cls(part, storage)

    async def link(self) -> str | None:
        """Where the bucket sends the whole object itself; it knows nothing of the files in it."""
        part = self.part
        if (part.start, part.size) != (0, part.stored_size):
            return None
        return await run_sync(self.storage.link, part.storage_key)

    async def body(
        self, found: Wanted, headers: Mapping[str, str], media_type: str | None
    ) -> Response:
        """The bytes as an answer.

        Raises:
            StorageError: Not even the first of them can be had.
        """
        first, stop = (self.part.start + offset for offset in (found.start, found.stop))
        pieces = self.storage.read(self.part.storage_key, first, stop)
        # Before the answer has begun: what fails later can only cut it.
        begin = await run_sync(next, pieces, b"")
        return StreamingResponse(_all(begin, pieces), found.status, headers, media_type)


async def _all(begin: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    piece = begin
    while piece:
        yield piece
        piece = await run_sync(next, pieces, b"")
