"""A part of an object that is a file here: opened, hashed before it is first sent, and sent."""

import os
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.artifacts.conditions import Wanted
from app.artifacts.contents import Contents
from app.artifacts.damage import corrupt, gone
from app.artifacts.parts import Part
from app.connections import SEND_FILE, SendFile

CHUNK = 1 << 20  # starlette's 64 KiB cost three times the CPU


@dataclass(frozen=True, slots=True)
class LocalSource:
    """Of one request."""

    part: Part
    contents: Contents
    descriptor: int

    @classmethod
    @contextmanager
    def opened(cls, path: Path, part: Part, contents: Contents) -> Iterator["LocalSource"]:
        """Open the object, if it is one of the length that was published.

        Raises:
            Problem: It is not.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise gone(part) from error
        except OSError as error:
            raise corrupt(part, f"it cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != part.stored_size:
                raise corrupt(part, f"it has {status.st_size} bytes, not {part.stored_size}")
            yield cls(part, contents, descriptor)
        finally:
            os.close(descriptor)

    async def link(self) -> None:
        """There is none: nobody else has the file."""

    async def body(
        self, found: Wanted, headers: Mapping[str, str], media_type: str | None
    ) -> Response:
        """The bytes as an answer, once they are known to be those that were published.

        Raises:
            Problem: They are not.
        """
        await self._check()
        first, stop = (self.part.start + offset for offset in (found.start, found.stop))
        return _Bytes((self.descriptor, first, stop), found.status, headers, media_type)

    async def _check(self) -> None:
        part = self.part
        try:
            sha256 = await self.contents.sha256(self.descriptor, part.start, part.size)
        except OSError as error:
            raise corrupt(part, f"it cannot be read: {error.strerror}") from error
        if sha256 != part.sha256:
            raise corrupt(part, f"{part.name!r} has the SHA-256 {sha256}, not {part.sha256}")


class _Bytes(StreamingResponse):
    """Bytes of an open file, by the kernel alone where the connection can send so."""

    def __init__(
        self,
        which: tuple[int, int, int],
        status: int,
        headers: Mapping[str, str],
        media_type: str | None,
    ) -> None:
        super().__init__(_read(*which), status, headers, media_type)
        self._which = which
        self._send_file: SendFile | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send_file = scope.get("extensions", {}).get(SEND_FILE)
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        if self._send_file is None:
            await super().stream_response(send)
            return
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        if await self._send_file(*self._which):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read(descriptor: int, start: int, stop: int) -> AsyncIterator[bytes]:
    while start < stop:
        chunk = await anyio.to_thread.run_sync(
            os.pread, descriptor, min(CHUNK, stop - start), start
        )
        if not chunk:
            # The connection is cut: the client has too few bytes, and sees so.
            raise EOFError("the object was cut short while it was sent")
        start += len(chunk)
        yield chunk
