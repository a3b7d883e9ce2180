"""Requests to addresses that users have named: checked, pinned, bounded, and without a detour.

The name is looked up once, every address it has is checked, and one of those is connected to. No
redirect is followed, no proxy asked, and nothing of the answer is kept but its status.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore

from app.webhooks.addresses import Network, is_forbidden
from app.webhooks.targets import Target

MOST_BYTES = 64 * 1024  # of an answer's body, which is only read so that the other side can end
LINGER_SECONDS = 1.0  # for which it is read

# All addresses of a name. It may take its time; nobody waits for it beyond the deadline.
Resolver = Callable[[str, int], Sequence[str]]


class OutboundError(Exception):
    """There is no answer.

    Args:
        kind: Why, in one word.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class ForbiddenAddressError(OutboundError):
    def __init__(self) -> None:
        super().__init__("forbidden_address")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    retry_after: float | None
    """Seconds; None where it does not say, or not in seconds."""


def look_up(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True, slots=True)
class Client:
    """Sends one request at a time to anybody, on a connection of its own.

    Args:
        allowed: Networks that may be sent to whatever the table of addresses says.
        seconds: From the look-up of the name to the answer.
        resolve: Looks up names.
        tls: What a server's certificate is checked by.
    """

    allowed: Sequence[Network]
    seconds: float
    resolve: Resolver = look_up
    tls: ssl.SSLContext | None = None

    def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body.

        Raises:
            OutboundError: It did not get there, or no answer came back.
        """
        guard = _Guard(self, deadline=time.monotonic() + self.seconds)
        url = httpcore.URL(
            scheme=target.scheme, host=_bracketed(target.host), port=target.port, target=target.path
        )
        pool = httpcore.ConnectionPool(
            ssl_context=self.tls or _system_tls(),
            max_keepalive_connections=0,
            network_backend=guard,
        )
        try:
            with (
                pool,
                pool.stream("POST", url, headers=[*headers.items()], content=body) as response,
            ):
                answer = Answer(response.status, _retry_after(response.headers))
                guard.linger()
                _read_some(response)
                return answer
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise OutboundError("timeout") from error
        except httpcore.ConnectError as error:
            raise OutboundError("tls" if _is_tls(error) else "not_connected") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            raise OutboundError("protocol") from error


class _Guard(httpcore.NetworkBackend):
    """Connects to checked addresses alone, and lets nothing take longer than the deadline."""

    def __init__(self, client: Client, *, deadline: float) -> None:
        self._client = client
        self._deadline = deadline

    def linger(self) -> None:
        self._deadline = min(self._deadline, time.monotonic() + LINGER_SECONDS)

    def left(self, timeout: float | None = None) -> float:
        """Seconds until the deadline, or until a timeout before it; fails where there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("past the deadline")
        return left if timeout is None else min(left, timeout)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._checked(host.strip("[]"), port)
        backend = httpcore.SyncBackend()
        refusal: httpcore.NetworkError | None = None
        for address in addresses:
            try:
                stream = backend.connect_tcp(
                    address, port, self.left(timeout), local_address, socket_options
                )
            except httpcore.ConnectError as error:
                refusal = error
            else:
                return _Stream(stream, self)
        raise refusal or OutboundError("unresolvable")

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise ForbiddenAddressError

    def _checked(self, host: str, port: int) -> Sequence[str]:
        """All addresses of a host, if every one of them may be sent to.

        One that may not is reason enough: who mixes them hopes that it is taken.
        """
        try:
            addresses = _in_time(lambda: self._client.resolve(host, port), self.left())
        except TimeoutError:
            # Of the wait for it; it is an OSError, too.
            raise
        except OSError as error:
            raise OutboundError("unresolvable") from error
        if any(is_forbidden(address, self._client.allowed) for address in addresses):
            raise ForbiddenAddressError
        return list(dict.fromkeys(addresses))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, guard: _Guard) -> None:
        self._stream = stream
        self._guard = guard

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._guard.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._guard.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        # The name that was asked for, not the address: it is what the certificate is of.
        stream = self._stream.start_tls(ssl_context, server_hostname, self._guard.left(timeout))
        return _Stream(stream, self._guard)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


@cache
def _system_tls() -> ssl.SSLContext:
    # Reading all authorities takes a good part of a second.
    return ssl.create_default_context()


def _in_time(work: Callable[[], Sequence[str]], seconds: float) -> Sequence[str]:
    """What some work comes to; nobody waits for it any longer than that."""
    future: Future[Sequence[str]] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except OSError as error:
            future.set_exception(error)
        except UnicodeError as error:
            # Of a name that no resolver is asked for.
            future.set_exception(OSError(str(error)))

    threading.Thread(target=run, name="resolve", daemon=True).start()
    return future.result(seconds)


def _read_some(response: httpcore.Response) -> None:
    read = 0
    with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        for chunk in response.iter_stream():
            read += len(chunk)
            if read > MOST_BYTES:
                return


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) <= len(str(2**31)):
            return float(value)
    return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_tls(error: BaseException) -> bool:
    return isinstance(error.__cause__ or error.__context__, ssl.SSLError)
