"""A bucket of S3 in a process of its own, which fails when it is told to: moto behind a proxy."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

import httpx
import obstore
from werkzeug.serving import BaseWSGIServer, make_server

from app.settings import Settings
from app.storage import Storage, open_storage
from app.storage.client import Client

NAME = "checkpoints"
KEY_ID, SECRET = "AKPLANTED0123456789", "planted-secret-of-the-bucket/0123456789"
CONTROL = "/_faults"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where it is, and how it fails."""

    endpoint: str

    @property
    def options(self) -> dict[str, str | bool]:
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
            "allow_http": True,
        }

    def settings(self, base: Settings, **changes: Any) -> Settings:
        """Of an installation that stores here."""
        stored = {
            "storage_url": f"s3://{NAME}/{base.data.parent.name}",
            "storage_options": json.dumps(self.options),
            **changes,
        }
        return Settings(**{**base.model_dump(), **stored})

    def storage(self, base: Settings, **changes: Any) -> Storage:
        return open_storage(self.settings(base, **changes))

    def fail(self, do: str, *, method: str = "", matching: str = "", times: int = 1_000) -> None:
        """Have requests fail.

        Args:
            do: A status to answer; `lose`: do it and cut the connection; `hang`: never answer.
            method: Of requests; all.
            matching: What their path or query has in it.
            times: How many of them.
        """
        fault = {"do": do, "method": method, "matching": matching, "times": times}
        httpx.post(self.endpoint + CONTROL, json=fault, trust_env=False).raise_for_status()

    def heal(self) -> None:
        httpx.delete(self.endpoint + CONTROL, trust_env=False).raise_for_status()

    def unfinished(self) -> str:
        """What it tells of uploads in parts that have not ended."""
        url = f"{self.endpoint}/{NAME}?uploads"
        return httpx.get(url, trust_env=False).raise_for_status().text

    def overwrite(self, base: Settings, key: str, data: bytes) -> None:
        """Put other bytes in an object's place, as nothing of ours ever does."""
        client = Client.of(self.settings(base))
        obstore.put(client.store, key, data)


@contextmanager
def running() -> Iterator[Bucket]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bucket"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        bucket = Bucket(process.stdout.readline().strip())
        httpx.put(f"{bucket.endpoint}/{NAME}", trust_env=False).raise_for_status()
        try:
            yield bucket
        finally:
            process.kill()


class Failing:
    """In front of a WSGI application."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app, self.faults = app, list[dict[str, Any]]()
        self.healed = threading.Event()

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == CONTROL:
            return self._control(environ, start)
        fault = self._next(environ)
        if fault is None:
            return self._pass(environ, start)
        if fault == "hang":
            self.healed.wait(60)
        if fault == "lose":
            b"".join(self._pass(environ, _unheard))
        if fault in ("hang", "lose"):
            environ["werkzeug.socket"].shutdown(2)
            return [b""]
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        # Says back what came, as a provider does that knows no such key.
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        said = b"" if is_head else environ.get("HTTP_AUTHORIZATION", "").encode()
        start(f"{fault} {HTTPStatus(int(fault)).phrase}", [("Content-Length", str(len(said)))])
        return [said]

    def _pass(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        return self.app(environ, start)

    def _control(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            length = int(environ["CONTENT_LENGTH"])
            self.faults.append(json.loads(environ["wsgi.input"].read(length)))
        else:
            self.faults.clear()
            self.healed.set()
            self.healed = threading.Event()
        start("204 No Content", [])
        return []

    def _next(self, environ: dict[str, Any]) -> str | None:
        where = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        for fault in self.faults:
            if (
                fault["times"] > 0
                and fault["method"] in ("", environ["REQUEST_METHOD"])
                and fault["matching"] in where
            ):
                fault["times"] -= 1
                return str(fault["do"])
        return None


def _unheard(*_: object) -> Callable[[bytes], object]:
    """Begin an answer that nobody gets."""
    return len


def _shut_down(server: BaseWSGIServer) -> None:
    sys.stdin.read()
    server.shutdown()


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    failing = Failing(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, failing, threaded=True)
    # It ends with whoever started it.
    threading.Thread(target=_shut_down, args=[server], daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
