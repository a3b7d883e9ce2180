"""A hub on this machine that does to its clients what a test wants; and what they sent to it."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
API = re.compile(
    r"/api/(models|datasets)/(?P<repo>[^/]+/[^/]+)/(?P<call>revision|tree)/(?P<rev>.+)"
)
FILE = re.compile(r"/(datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")

Answer = Callable[["Handler"], None]


@dataclass
class FakeHub:
    """One repository, under whatever name.

    Args:
        files: By path.
        lfs: Paths of those that are declared by their SHA-256; all others by Git's hash.
        declared: What is said of a file instead of the truth: ``size`` or ``digest``.
        instead: By the end of a request's path: what to answer; one that returns answers for good.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)
    declared: dict[str, dict[str, Any]] = field(default_factory=dict)
    instead: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def seen(self, end: str) -> list[dict[str, str]]:
        """The headers of all requests to a path that ends so."""
        return [headers for path, headers in self.requests if path.endswith(end)]

    def tree(self) -> list[dict[str, Any]]:
        return [self._entry(path, content) for path, content in self.files.items()]

    def _entry(self, path: str, content: bytes) -> dict[str, Any]:
        told = {"size": len(content), **self.declared.get(path, {})}
        git = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False)
        sha256 = told.get("digest", hashlib.sha256(content).hexdigest())
        entry = {"type": "file", "path": path, "size": told["size"]}
        if path in self.lfs:
            lfs = {"oid": sha256, "size": told["size"], "pointerSize": 134}
            return {**entry, "oid": "0" * 40, "lfs": lfs}
        return {**entry, "oid": told.get("digest", git.hexdigest())}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((path, {k.lower(): v for k, v in self.headers.items()}))
        for end, answers in self.hub.instead.items():
            if path.endswith(end) and answers:
                answers.pop(0)(self)
                return
        self.answer_truly(path)

    def answer_truly(self, path: str) -> None:
        if api := API.fullmatch(path):
            body: object = self.hub.tree()
            if api["call"] == "revision":
                body = {"id": api["repo"], "sha": COMMIT, "siblings": [], "tags": []}
            self.send(200, json.dumps(body).encode())
        elif (file := FILE.fullmatch(path)) and file["path"] in self.hub.files:
            self.send_file(self.hub.files[file["path"]])
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def send_file(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206, content[start:], {"Content-Range": span})
        else:
            self.send(200, content)

    def send(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        cut_after: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut_after])
        self.close_connection = cut_after is not None


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    handler = type("OfThisHub", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
