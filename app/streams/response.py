"""An answer whose body goes on: written by a noun, ended by its client, its job, its key or us."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.jobs.tables import Job
from app.streams.feeds import Feeds, Stream
from app.streams.standing import Standing

Write = Callable[[bytes], Awaitable[None]]

LAST_WORD_SECONDS = 1.0

HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would wait for more
    "X-Content-Type-Options": "nosniff",
}


class LiveResponse(Response, ABC):
    """Counts as an open stream, from its first byte on.

    Not starlette's StreamingResponse: a client that takes nothing would never be dropped, and
    nobody could end it from outside. It is begun after the request's transaction has ended.
    """

    def __init__(self, job: Job, key_id: str, feeds: Feeds, media_type: str) -> None:
        super().__init__(media_type=media_type, headers=dict(HEADERS))
        del self.headers["content-length"]
        self.job_id = job.id
        self.feeds = feeds
        self._key_id = key_id
        self._standing = Standing.of(job)

    @abstractmethod
    async def follow(self, stream: Stream, write: Write) -> None:
        """Write the body until it is complete."""

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            Problem: 429 or 503, before anything was sent.
        """
        with self.feeds.open(self.job_id, self._key_id, self._standing) as stream:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            stalled = False

            async def write(chunk: bytes) -> None:
                nonlocal stalled
                with anyio.move_on_after(self.feeds.settings.stream_stalled_seconds) as patience:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if patience.cancelled_caught:
                    stalled = True
                    stream.scope.cancel()

            with stream.scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(_until_disconnected, receive, stream.scope)
                    await self.follow(stream, write)
                    group.cancel_scope.cancel()
            if not stalled:
                # Else the server sees an answer without an end, and closes the connection.
                with anyio.move_on_after(LAST_WORD_SECONDS):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnected(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
