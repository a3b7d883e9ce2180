"""The API behind a real socket, for clients that speak nothing but HTTP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.connections import SEND_FILE, SERVER
from app.server import Server


@dataclass
class Served:
    """Where it listens; and the ``Range`` of each GET of the file whose download is cut once."""

    url: str = ""
    cut_path: str | None = None
    """The end of the path of the file."""
    cut_after: int = 0
    """Bytes that its first download gets."""
    ranges: list[str | None] = field(default_factory=list)


@contextmanager
def serve(app: ASGIApp) -> Iterator[Served]:
    served = Served()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # The server does so only after it says that it has started.
        listener.listen()
        served.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = threading.Event()
        config = uvicorn.Config(_Cutting(app, served, started), log_config=None, **SERVER)
        server = Server(app, config) if isinstance(app, FastAPI) else uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert started.wait(30)
            yield served
        finally:
            server.should_exit = True
            thread.join()


class _Cutting:
    def __init__(self, app: ASGIApp, served: Served, started: threading.Event) -> None:
        self.app, self.served, self.started = app, served, started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._starting(send))
        elif self._is_watched(scope):
            self.served.ranges.append(Headers(scope=scope).get("range"))
            cuts = len(self.served.ranges) == 1
            if cuts:
                # What is to be cut must come past here.
                scope["extensions"].pop(SEND_FILE)
            await self.app(scope, receive, self._cutting(send) if cuts else send)
        else:
            await self.app(scope, receive, send)

    def _is_watched(self, scope: Scope) -> bool:
        cut = self.served.cut_path
        return scope["method"] == "GET" and cut is not None and str(scope["path"]).endswith(cut)

    def _starting(self, send: Send) -> Send:
        async def send_started(message: Message) -> None:
            await send(message)
            self.started.set()

        return send_started

    def _cutting(self, send: Send) -> Send:
        left = self.served.cut_after

        async def send_some(message: Message) -> None:
            nonlocal left
            if message["type"] != "http.response.body":
                await send(message)
                return
            body = message["body"][:left]
            left -= len(body)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if left == 0:
                # Uvicorn closes the connection: its client has too few bytes.
                raise ConnectionResetError

        return send_some
