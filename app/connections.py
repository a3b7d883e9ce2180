"""How the server listens: one place for who may keep a connection, and for how long."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEAD_SECONDS = 10.0
IDLE_SECONDS = 5


class Connection(H11Protocol):
    """Closes a connection on which no request's head arrives in time.

    Uvicorn itself waits for ever for the first one, and for the rest of any that has begun.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._stop_where_at_work()

    def on_response_complete(self) -> None:
        # Before it looks whether the next request is there already.
        self._await_head()
        super().on_response_complete()
        self._stop_where_at_work()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _await_head(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._close)

    def _close(self) -> None:
        self.transport.close()

    def _stop_where_at_work(self) -> None:
        # While a request is at work, its body and its answer have deadlines of their own.
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


# Of uvicorn's configuration, what has to do with callers.
SERVER: dict[str, Any] = {
    "http": Connection,
    "ws": "none",
    "timeout_keep_alive": IDLE_SECONDS,
    "timeout_graceful_shutdown": 10,
}
