"""Stored bytes as an answer: conditions, one range, a file that is gone or no longer the same."""

import base64
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import anyio
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.artifacts.conditions import Wanted, refused, wanted
from app.artifacts.contents import Contents
from app.artifacts.parts import Part
from app.connections import SEND_FILE, SendFile
from app.problems import Problem
from app.storage import LocalStorage

logger = logging.getLogger(__name__)

CHUNK = 1 << 20  # starlette's 64 KiB cost three times the CPU
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Download(Response):
    """A part of a stored object.

    It is looked at when it is sent, after the request's transaction has ended: hashing it for the
    first time may take longer than that may last.
    """

    media_type = "application/octet-stream"

    def __init__(
        self,
        part: Part,
        storage: LocalStorage,
        contents: Contents,
        *,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(media_type=media_type)
        self._part = part
        self._path = storage.path(part.storage_key)
        self._contents = contents
        self._about = {
            "ETag": f'"{part.sha256}"',
            "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(part.sha256)).decode()}:",
            "Accept-Ranges": "bytes",
            **(headers or {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            Problem: 410 where the object is gone, 502 where it is no longer what was published,
                412 and 416 as RFC 9110 has it.
        """
        with _open(self._path, self._part) as descriptor:
            found = wanted(
                scope["method"],
                Headers(scope=scope),
                entity_tag=self._about["ETag"],
                size=self._part.size,
            )
            answer = await self._answer(scope["method"], found, descriptor)
            await answer(scope, receive, send)

    async def _answer(self, method: str, found: Wanted, descriptor: int) -> Response:
        if found.status in (
            HTTPStatus.PRECONDITION_FAILED,
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        ):
            raise refused(found, self._part.size)
        if found.status == HTTPStatus.NOT_MODIFIED:
            return Response(status_code=304, headers=self._about)
        headers = {
            **self._about,
            "Content-Length": str(found.stop - found.start),
            "Content-Disposition": f'attachment; filename="{UNSAFE.sub("_", self._part.name)}"',
            "X-Content-Type-Options": "nosniff",
        }
        if found.status == HTTPStatus.PARTIAL_CONTENT:
            last = found.stop - 1
            headers["Content-Range"] = f"bytes {found.start}-{last}/{self._part.size}"
        if method == "HEAD":
            return Response(headers=headers, media_type=self.media_type)
        await self._check(descriptor)
        first, stop = (self._part.start + offset for offset in (found.start, found.stop))
        return _Bytes((descriptor, first, stop), found.status, headers, self.media_type)

    async def _check(self, descriptor: int) -> None:
        part = self._part
        try:
            sha256 = await self._contents.sha256(descriptor, part.start, part.size)
        except OSError as error:
            raise _corrupt(part, f"it cannot be read: {error.strerror}") from error
        if sha256 != part.sha256:
            raise _corrupt(part, f"{part.name!r} has the SHA-256 {sha256}, not {part.sha256}")


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


@contextmanager
def _open(path: Path, part: Part) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise _gone(part) from error
    except OSError as error:
        raise _corrupt(part, f"it cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != part.stored_size:
            raise _corrupt(part, f"it has {status.st_size} bytes, not {part.stored_size}")
        yield descriptor
    finally:
        os.close(descriptor)


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


def _gone(part: Part) -> Problem:
    logger.error("%s is not in the storage", part.storage_key)
    return Problem(
        410,
        "checkpoint_gone",
        "The checkpoint is no longer in the storage.",
        remedy="Post the job again.",
    )


def _corrupt(part: Part, reason: str) -> Problem:
    logger.error("%s is not what was published: %s", part.storage_key, reason)
    return Problem(
        502,
        "checkpoint_corrupt",
        "What is in the storage is no longer what the job published.",
        remedy="Tell who runs this service; or post the job again.",
    )
