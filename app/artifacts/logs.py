"""A job's log as an answer: the parts of all attempts, one after the other, as if one file."""

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import anyio
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.artifacts import queries
from app.artifacts.conditions import Wanted, refused, wanted
from app.artifacts.tables import Artifact
from app.jobs.tables import Job
from app.storage import Storage
from app.streams.feeds import Feeds, Stream
from app.streams.response import LiveResponse, Write

MEDIA_TYPE = "text/plain; charset=utf-8"
CHUNK = 1 << 20
LOOK_SECONDS = 5.0  # from one look for new parts to the next, where no event comes before


@dataclass(frozen=True, slots=True)
class Log:
    """What there was at one moment; a part that is stored is never changed."""

    storage: Storage
    parts: tuple[tuple[str, str, int], ...]
    """Of each its id, its key and its bytes: none where it is gone."""

    @classmethod
    def of(cls, artifacts: Sequence[Artifact], storage: Storage) -> "Log":
        """Of parts in the order in which they were printed."""
        return cls(
            storage,
            tuple(
                (each.id, each.storage_key, storage.present_size(each.storage_key, each.size or 0))
                for each in artifacts
            ),
        )

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self.parts)

    @property
    def entity_tag(self) -> str:
        parts = " ".join(f"{name} {size}" for name, _, size in self.parts)
        return f'"{hashlib.sha256(parts.encode()).hexdigest()[:32]}"'

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from one to before another, in chunks."""
        begin = 0
        for _, key, size in self.parts:
            first, last = max(start - begin, 0), min(stop - begin, size)
            begin += size
            if first < last:
                # Nothing of a part that turns out to be gone.
                with suppress(FileNotFoundError):
                    yield from self.storage.read(key, first, last)

    def backwards(self, step: int) -> Iterator[tuple[int, bytes]]:
        """Pieces from the end on, each with where it begins; none is longer, or of two parts."""
        end = self.size
        for _, _, size in reversed(self.parts):
            begin = end - size
            while begin < end:
                start = max(begin, end - step)
                yield start, b"".join(self.read(start, end))
                end = start

    def last_lines(self, count: int) -> int:
        """Where the last so many lines begin."""
        if count == 0:
            return self.size
        is_last = True
        for start, piece in self.backwards(CHUNK):
            # The end of the last line begins no further one.
            at = len(piece) - (is_last and piece.endswith(b"\n"))
            is_last = is_last and not piece
            while (at := piece.rfind(b"\n", 0, at)) >= 0:
                count -= 1
                if count == 0:
                    return start + at + 1
        return 0

    def last_text(self, lines: int, most_bytes: int) -> bytes:
        """The last lines, and not more bytes than there may be; read from the end, each part once.

        Args:
            lines: How many; at least one.
            most_bytes: At least one.
        """
        pieces = deque[bytes]()
        found = size = 0
        for _, piece in self.backwards(most_bytes):
            pieces.appendleft(piece)
            found += piece.count(b"\n")
            size += len(piece)
            # One more ends the line before those.
            if found > lines or size >= most_bytes:
                break
        text = b"".join(pieces)[-most_bytes:]
        ends = lines + text.endswith(b"\n")
        return b"\n".join(text.rsplit(b"\n", ends)[-ends:])


class LogResponse(Response):
    """The log as it is now, or the range of it that is asked for."""

    def __init__(self, log: Log, *, start: int = 0) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._log, self._start = log, start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            Problem: 412 and 416 as RFC 9110 has it.
            StorageError: Not even the first of it can be had.
        """
        size = self._log.size - self._start
        found = wanted(
            scope["method"], Headers(scope=scope), entity_tag=self._log.entity_tag, size=size
        )
        answer = await self._answer(scope["method"], found, size)
        await answer(scope, receive, send)

    async def _answer(self, method: str, found: Wanted, size: int) -> Response:
        headers = {
            "ETag": self._log.entity_tag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        if found.status == HTTPStatus.NOT_MODIFIED:
            return Response(status_code=304, headers=headers)
        if found.status >= HTTPStatus.BAD_REQUEST:
            raise refused(found, size)
        if method == "HEAD" or found.status == HTTPStatus.PARTIAL_CONTENT:
            # Not of a whole log that is sent: of a bucket's part it is only believed to be there.
            headers["Content-Length"] = str(found.stop - found.start)
        if found.status == HTTPStatus.PARTIAL_CONTENT:
            headers["Content-Range"] = f"bytes {found.start}-{found.stop - 1}/{size}"
        if method == "HEAD":
            return PlainTextResponse(headers=headers)
        chunks = self._log.read(self._start + found.start, self._start + found.stop)
        # Before the answer has begun: what fails later can only cut it.
        first = await _in_thread(next, chunks, b"")
        return StreamingResponse(_all(first, chunks), found.status, headers, media_type=MEDIA_TYPE)


class LogStream(LiveResponse):
    """The log, and what is added to it until the job has ended."""

    def __init__(
        self, job: Job, key_id: str, feeds: Feeds, storage: Storage, *, tail: int | None
    ) -> None:
        super().__init__(job, key_id, feeds, MEDIA_TYPE)
        self._storage, self._tail = storage, tail

    async def follow(self, stream: Stream, write: Write) -> None:
        log = await self._read()
        sent = 0 if self._tail is None else await _in_thread(log.last_lines, self._tail)
        while True:
            # Before it is read: what a job's worker prints is stored before the job ends.
            ended = stream.feed.standing.ended
            log = await self._read()
            async for chunk in _all(b"", log.read(sent, log.size)):
                await write(chunk)
            sent = max(sent, log.size)
            if ended:
                return
            await stream.feed.wait(LOOK_SECONDS)

    async def _read(self) -> Log:
        found = await self.feeds.read(queries.logs(self.job_id))
        return await _in_thread(Log.of, found, self._storage)


async def current(artifacts: Sequence[Artifact], storage: Storage, tail: int | None) -> Response:
    """The log of these parts, or its last lines; read beside the event loop."""
    log = await _in_thread(Log.of, artifacts, storage)
    return LogResponse(log, start=0 if tail is None else await _in_thread(log.last_lines, tail))


async def last_text(
    artifacts: Sequence[Artifact], storage: Storage, lines: int, most_bytes: int
) -> str:
    """The last lines of the log of these parts, as text, and not more bytes than there may be."""

    def read() -> bytes:
        return Log.of(artifacts, storage).last_text(lines, most_bytes)

    return (await _in_thread(read)).decode(errors="replace")


_in_thread = anyio.to_thread.run_sync


async def _all(first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    while chunk := await _in_thread(next, chunks, b""):
        yield chunk
