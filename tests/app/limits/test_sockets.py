"""Callers that send too much, too slowly or nothing at all, over real sockets."""

import contextlib
import http.client
import json
import queue
import socket
import tempfile
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from app import connections
from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.served import Served, serve

DEADLINE = 1.0  # of heads and bodies here; what is compared with it gets many times as long
PATIENCE = 20.0


@pytest.fixture
def served(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", DEADLINE)
    with serve(create_app(settings.model_copy(update={"body_seconds": DEADLINE}))) as served:
        yield served


def connect(served: Served, sent: bytes = b"") -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.sendall(sent)
    return connection


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection; fails where it does not."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while received := connection.recv(65536):
            answer += received
    return answer


def post(key: NewKey, *headers: str, body: bytes = b"") -> bytes:
    head = ["POST /jobs HTTP/1.1", "Host: x", f"Authorization: Bearer {key.key}"]
    head += ["Content-Type: application/json", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_a_whole_head_is_closed(served: Served, sent: bytes) -> None:
    with connect(served, sent) as connection:
        assert everything(connection) == b""


def test_a_second_head_has_a_deadline_too(served: Served) -> None:
    with connect(served, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea") as connection:
        answer = everything(connection)

    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_head_that_trickles_in_is_not_waited_for(served: Served) -> None:
    before = time.monotonic()
    with connect(served, b"GET /healthz HTTP/1.1\r\n") as connection:
        connection.settimeout(0.1)
        while time.monotonic() - before < PATIENCE:
            try:
                connection.sendall(b"X: 1\r\n")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break

    assert time.monotonic() - before < PATIENCE


def test_two_requests_at_once_are_both_answered(served: Served) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    second = first + b"Connection: close\r\n"
    with connect(served, first + b"\r\n" + second + b"\r\n") as connection:
        assert everything(connection).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("body", [b"", b"unread"])
def test_between_requests_a_connection_is_kept_longer_than_a_head_is_waited_for(
    served: Served, body: bytes
) -> None:
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"))
    for _ in range(2):
        connection.putrequest("GET", "/healthz")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.read() == b'{"status":"ok"}'
        connection.send(body)
        time.sleep(2 * DEADLINE)
    connection.close()


@pytest.mark.parametrize("length", ["Content-Length: 300", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_a_408(served: Served, key: NewKey, length: str) -> None:
    with connect(served, post(key, length)) as connection:
        answer = everything(connection)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"/problems/body_too_slow" in answer


def test_a_body_that_nobody_reads_is_not_waited_for(served: Served) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 300000000\r\n\r\n"
    with connect(served, head) as connection:
        assert everything(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", ["Content-Length: 300000000", "Transfer-Encoding: chunked"])
def test_a_large_body_is_cut_off_while_it_arrives(served: Served, key: NewKey, length: str) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    before = psutil.Process().memory_info().rss
    sent = 0
    with connect(served, post(key, length)) as connection, contextlib.suppress(ConnectionError):
        while sent < 300_000_000:
            connection.sendall(chunk)
            sent += len(chunk)

    assert sent < 30_000_000
    assert psutil.Process().memory_info().rss - before < 50_000_000


def test_a_large_body_is_told_why(served: Served, key: NewKey, settings: Settings) -> None:
    body = b" " * (settings.max_body_bytes + 1)
    with connect(served, post(key, f"Content-Length: {len(body)}", body=body)) as connection:
        answer = everything(connection)

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"/problems/body_too_large" in answer


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Content-Length: 5", "Transfer-Encoding: chunked, gzip"),
        ("Transfer-Encoding: gzip",),
    ],
)
def test_a_length_that_contradicts_itself_is_refused(
    served: Served, key: NewKey, headers: tuple[str, ...]
) -> None:
    with connect(served, post(key, *headers, body=b"{}abc")) as connection:
        head, _, body = everything(connection).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["type"] == "/problems/bad_request"


@pytest.mark.parametrize(
    "line",
    [
        "OPTIONS * HTTP/1.1",
        "CONNECT a:1 HTTP/1.1",
        "TRACE /jobs HTTP/1.1",
        "GET http://other/jobs HTTP/1.1",
        "GET //other/jobs HTTP/1.1",
        "GET /jobs/../jobs HTTP/1.1",
        "GET /%00%ff%c0%80 HTTP/1.1",
        "GET /jobs/%ff?%ff=%ff&limit=%ff HTTP/1.1",
        "GET /jobs?limit=1&limit=2&&=&cursor HTTP/1.1",
        "GET /hf/api/models/%00/%ff HTTP/1.1",
        "get /jobs HTTP/1.1",
        "FOO /jobs HTTP/1.1",
        "GET /jobs HTTP/1.0",
        "GET /jobs HTTP/2.0",
        "GET /jobs",
        "PRI * HTTP/2.0",
        "\x16\x03\x01\x02\x00",
    ],
)
def test_no_request_line_is_a_fault_of_the_service(served: Served, key: NewKey, line: str) -> None:
    head = f"{line}\r\nHost: x\r\nAuthorization: Bearer {key.key}\r\nConnection: close\r\n\r\n"
    with connect(served, head.encode("latin-1")) as connection:
        status = int(everything(connection).split(b" ")[1])

    assert 200 <= status < 500


@pytest.mark.parametrize(
    ("path", "headers", "status", "kind"),
    [
        ("/jobs?cursor=" + "a" * 17_000, 0, 414, "uri_too_long"),
        ("/" + "a" * 17_000, 0, 414, "uri_too_long"),
        ("/healthz", 200, 431, "headers_too_large"),
    ],
)
def test_a_long_head_is_refused_with_its_reason(
    served: Served, path: str, headers: int, status: int, kind: str
) -> None:
    sent = httpx.get(served.url + path, headers={f"X-{index}": "1" for index in range(headers)})

    assert (sent.status_code, sent.json()["type"]) == (status, f"/problems/{kind}")


def test_one_long_header_is_refused(served: Served) -> None:
    assert httpx.get(f"{served.url}/healthz", headers={"X": "1" * 40_000}).status_code == 431


def test_a_head_without_an_end_is_cut_off(served: Served) -> None:
    sent = 0
    start = b"GET /healthz HTTP/1.1\r\n"
    with connect(served, start) as connection, contextlib.suppress(ConnectionError):
        while sent < 50_000_000:
            connection.sendall(b"X: " + b"1" * 65536 + b"\r\n")
            sent += 65536

    assert sent < 20_000_000


def test_a_half_closed_connection_is_closed(served: Served, key: NewKey) -> None:
    for sent in (b"", b"GET /hea", post(key, "Content-Length: 300", body=b"{")):
        with connect(served, sent) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection) == b""


def test_two_hundred_slow_callers_hold_up_nobody_and_are_all_cut_off(
    served: Served, key: NewKey
) -> None:
    starts = (b"", b"G", post(key, "Content-Length: 300"), post(key, "Transfer-Encoding: chunked"))
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(served, start)) for start in starts * 50]
        before = time.monotonic()
        with httpx.Client(base_url=served.url) as client:
            headers = {"Authorization": f"Bearer {key.key}"}
            statuses = {client.get("/jobs", headers=headers).status_code for _ in range(10)}
        taken = time.monotonic() - before

        for connection in slow:
            everything(connection)

    assert statuses == {200}
    assert taken < PATIENCE / 2


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer of 200 MB, in pieces."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})


async def endless_file(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await endless(scope, receive, send)
        return
    length = [(b"content-length", b"%d" % (200 << 20))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    with tempfile.TemporaryFile() as file:
        file.truncate(200 << 20)
        if await scope["extensions"][connections.SEND_FILE](file.fileno(), 0, 200 << 20):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("app", [endless, endless_file])
def test_an_answer_that_nobody_takes_is_not_kept(
    app: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", DEADLINE)
    with (
        serve(app) as served,
        connect(served, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as connection,
    ):
        assert connection.recv(12) == b"HTTP/1.1 200"
        port = connection.getsockname()[1]
        give_up_at = time.monotonic() + PATIENCE
        while any(
            peer.raddr and peer.raddr.port == port and peer.status == psutil.CONN_ESTABLISHED
            for peer in psutil.Process().net_connections("tcp")
            if peer.laddr.port != port
        ):
            assert time.monotonic() < give_up_at, "the server still keeps the connection"
            time.sleep(0.05)


@pytest.mark.parametrize("app", [endless, endless_file])
def test_an_answer_that_is_taken_slowly_is_sent_whole(
    app: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", DEADLINE)
    received = 0
    with (
        serve(app) as served,
        connect(served, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as connection,
    ):
        before = time.monotonic()
        while received < 200 << 20:
            received += len(connection.recv(1 << 24))
            # As slow as takes twice the deadline.
            ahead = 2 * DEADLINE * received / (200 << 20) - (time.monotonic() - before)
            time.sleep(max(0.0, ahead))

    assert received >= 200 << 20


def test_a_client_that_goes_before_its_file_is_sent_is_no_fault_of_the_service() -> None:
    sent = queue.Queue[bool | Exception]()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await endless(scope, receive, send)
            return
        while (await receive())["type"] != "http.disconnect":
            continue
        length = [(b"content-length", b"1024")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        with tempfile.TemporaryFile() as file:
            file.truncate(1024)
            try:
                sent.put(await scope["extensions"][connections.SEND_FILE](file.fileno(), 0, 1024))
            except Exception as error:
                sent.put(error)
                raise

    with serve(late) as served:
        connect(served, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").close()

        assert sent.get(timeout=PATIENCE) is False


def test_every_connection_of_the_service_has_a_deadline() -> None:
    assert 0 < connections.HEAD_SECONDS <= 30
    assert 0 < connections.STALL_SECONDS <= 120
    assert 60 < connections.IDLE_SECONDS <= 120  # nginx keeps its own 60
    assert connections.SERVER["http"] is connections.Connection
