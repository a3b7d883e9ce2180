"""How the server listens: one place for who may keep a connection, and for how long."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import uuid4

import h11
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from app.problems import Problem

HEAD_SECONDS = 10.0
STALL_SECONDS = 60.0  # without a byte of an answer, or a piece of a file, being taken
PIECE = 512 << 10  # bytes of a file; for who takes them at once twice as many, and so on
LARGEST_PIECE = 64 << 20
QUICK = 1 / 60  # of the time there is for a piece
# Between requests. Longer than clients (httpx 5) and proxies (nginx 60) keep one, so that it is
# they who end it: a request that is sent while we do would be lost.
IDLE_SECONDS = 75
# Of a scope: what sends bytes of an open file from one offset to another, where there is one.
SEND_FILE = "pst.send_file"
SendFile = Callable[[int, int, int], Awaitable[bool]]


class _Length:
    """Stands for so many bytes that do not pass through here: h11 only counts them."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


class Connection(H11Protocol):
    """Closes a connection on which no request's head arrives in time, or no answer is taken.

    Uvicorn itself waits for ever for the first head, for the rest of any that has begun, and for a
    client that has stopped reading. To what it serves it offers to send files as the kernel does.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._served, self.app = self.app, self._serve
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._await_head()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # What is encrypted has to pass through here.
        if self.transport.get_extra_info("sslcontext") is None:
            scope.setdefault("extensions", {})[SEND_FILE] = self._send_file
        await self._served(scope, receive, send)

    async def _send_file(self, descriptor: int, start: int, stop: int) -> bool:
        """Bytes of a file as those of the answer whose head was sent; False: nobody takes them.

        Raises:
            EOFError: The file ends before.
        """
        if self.cycle.disconnected:  # before the head was sent; nobody noticed
            return False
        self.conn.send_with_data_passthrough(h11.Data(data=cast("bytes", _Length(stop - start))))
        piece = PIECE
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            while start < stop:
                count, began = min(piece, stop - start), self.loop.time()
                try:
                    async with asyncio.timeout(STALL_SECONDS):
                        sent = await self.loop.sendfile(self.transport, file, start, count)
                except (OSError, RuntimeError, TimeoutError):
                    # It is gone, or closing, or as good as gone.
                    self.cycle.disconnected = True
                    self.transport.abort()
                    return False
                if not sent:
                    raise EOFError("the object was cut short while it was sent")
                start += sent
                quick = self.loop.time() - began < QUICK * STALL_SECONDS
                piece = min(2 * piece, LARGEST_PIECE) if quick else PIECE
        return True

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        # Uvicorn's own is no problem document; and where an answer has begun, there is no other.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = _malformed(msg).answer(uuid4().hex)
            headers = [*answer.raw_headers, (b"connection", b"close")]
            for event in (
                h11.Response(status_code=answer.status_code, headers=headers),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()
        self._stop_stalled()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_stalled()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stalled()

    def _watch(self) -> None:
        """Set a deadline to what has begun to arrive: a head, or a body that nobody reads."""
        if self.cycle is not None and not self.cycle.response_complete:
            # While a request is at work, its body and its answer have deadlines of their own.
            self._stop()
        elif self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._stop()
            if self.timeout_keep_alive_task is None:
                # Uvicorn has stopped it for what came last, and that was no request.
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        elif self._deadline is None:
            self._await_head()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._close)

    def _close(self) -> None:
        # What is left of the last answer is still sent, if it is taken.
        self.transport.close()
        self._stop_stalled()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def _stop_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _malformed(what: str) -> Problem:
    return Problem(400, "bad_request", what, remedy="Send what HTTP/1.1 allows (RFC 9112).")


# Of uvicorn's configuration, what has to do with callers.
SERVER: dict[str, Any] = {
    "http": Connection,
    # The one whose connections send files.
    "loop": "asyncio",
    "ws": "none",
    "timeout_keep_alive": IDLE_SECONDS,
    "timeout_graceful_shutdown": 10,
}
