"""A service that answers by a list, for what the real one does seldom or never."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import BaseModel

__all__ = ["Reply", "Scripted", "scripted"]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body that are sent before the connection ends."""


@dataclass
class Scripted:
    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    asked: list[tuple[str, Message]] = field(default_factory=list)
    """The path and the headers of each request."""

    def will(self, *replies: Reply) -> None:
        self.replies += replies

    def will_tell(self, answer: BaseModel) -> None:
        self.will(Reply(body=answer.model_dump_json().encode()))

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def _serve(script: Scripted) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append((self.path, self.headers))
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            reply = script.replies.pop(0)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: reply.cut_after])

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()
    with _serve(script):
        yield script
