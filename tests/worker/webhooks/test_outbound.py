"""What users name is looked up once, checked, and connected to; nothing leads elsewhere."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from app.webhooks.targets import Target
from tests.jobs import submit
from tests.receiver import Receiver
from tests.webhooks import add_endpoint, deliver_due, delivery_rows
from worker.deliveries import Courier
from worker.outbound import Client, OutboundError, look_up

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Names:
    """A resolver that gives one answer after the other, and counts how often it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        del port
        self.asked.append(host)
        return self._answers.pop(0)


def target(receiver: Receiver, host: str = "hooks.example.com") -> Target:
    return Target("http", host, receiver.port, "/hook?a=1")


def post(client: Client, to: Target) -> int:
    return client.post(to, {"content-type": "application/json"}, b"{}").status


def refusal(client: Client, to: Target) -> str:
    with pytest.raises(OutboundError) as refused:
        post(client, to)
    return refused.value.kind


def test_the_address_that_was_checked_is_the_one_connected_to(receiver: Receiver) -> None:
    """It is looked up once: what a name means a moment later does not matter."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])

    assert post(Client(LOOPBACK, 20, names), target(receiver)) == 204
    assert names.asked == ["hooks.example.com"]
    assert receiver.received[0].headers["host"] == f"hooks.example.com:{receiver.port}"
    assert receiver.received[0].path == "/hook?a=1"


def test_a_retry_checks_anew(receiver: Receiver) -> None:
    client = Client(LOOPBACK, 20, Names(["127.0.0.1"], ["169.254.169.254"]))
    post(client, target(receiver))

    assert refusal(client, target(receiver)) == "forbidden_address"
    assert len(receiver.received) == 1


def test_one_forbidden_address_among_others_is_reason_enough(receiver: Receiver) -> None:
    client = Client(LOOPBACK, 20, Names(["127.0.0.1", "10.0.0.1"]))

    assert refusal(client, target(receiver)) == "forbidden_address"
    assert receiver.received == []


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "::1"]
)
def test_loopback_is_forbidden_however_it_is_called(receiver: Receiver, host: str) -> None:
    """Where an operator does not allow it."""
    assert refusal(Client((), 20, look_up), target(receiver, host)) == "forbidden_address"
    assert receiver.received == []


def test_no_proxy_is_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert post(Client(LOOPBACK, 20, Names(["127.0.0.1"])), target(receiver)) == 204


def test_a_resolver_that_hangs_is_not_waited_for(receiver: Receiver) -> None:
    answer = threading.Event()

    def hang(host: str, port: int) -> Sequence[str]:
        del host, port
        answer.wait()
        return ["127.0.0.1"]

    assert refusal(Client(LOOPBACK, 0.2, hang), target(receiver)) == "timeout"
    answer.set()


def test_an_answer_that_drips_ends_with_the_deadline(receiver: Receiver) -> None:
    """However often a byte of it comes."""

    def drip(handler: object) -> None:
        while not receiver.released.wait(0.05):
            handler.wfile.write(b"H")  # type: ignore[attr-defined] # a request handler

    receiver.behaviour = drip

    assert refusal(Client(LOOPBACK, 0.5, Names(["127.0.0.1"])), target(receiver)) == "timeout"


def test_a_name_that_nobody_knows_has_no_answer(receiver: Receiver) -> None:
    def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, f"{host}:{port}")

    assert refusal(Client(LOOPBACK, 20, unknown), target(receiver)) == "unresolvable"


def test_where_the_first_address_is_down_the_next_is_tried(receiver: Receiver) -> None:
    client = Client((*LOOPBACK, ip_network("::1/128")), 20, Names(["::1", "127.0.0.1"]))

    assert post(client, target(receiver)) == 204


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of hooks.example.com, signed by itself, with its key."""
    file = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=hooks.example.com"),
            *("-addext", "subjectAltName=DNS:hooks.example.com"),
            *("-keyout", str(file), "-out", str(tmp_path / "public.pem")),
        ],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + (tmp_path / "public.pem").read_text())
    return file


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[tuple[int, list[str | None]]]:
    """Where it listens, and the names it was asked for."""
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        received = b""
                        # Whole: to close with some of it unread would cut the answer off.
                        while part := secured.recv(65536):
                            received += part
                            if received.endswith(b"{}"):
                                secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                                return
                except OSError:
                    return  # the client did not like the certificate

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], names
        thread.join()


def test_over_tls_the_name_is_kept(
    certificate: Path, tls_server: tuple[int, list[str | None]]
) -> None:
    port, names = tls_server
    trusting = ssl.create_default_context(cafile=str(certificate))
    client = Client(LOOPBACK, 20, Names(["127.0.0.1"]), trusting)

    assert post(client, Target("https", "hooks.example.com", port, "/")) == 204
    assert names == ["hooks.example.com"]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_of_another_name_or_of_nobody_is_refused(
    certificate: Path, tls_server: tuple[int, list[str | None]], *, trusted: bool
) -> None:
    port, _ = tls_server
    context = ssl.create_default_context(cafile=str(certificate)) if trusted else None
    client = Client(LOOPBACK, 20, Names(["127.0.0.1"]), context)
    host = "other.example.com" if trusted else "hooks.example.com"

    assert refusal(client, Target("https", host, port, "/")) == "tls"


def test_what_the_operator_allows_no_longer_is_not_sent_to(
    sessions: sessionmaker[Session], key: NewKey, settings: Settings, receiver: Receiver
) -> None:
    add_endpoint(sessions, settings, key.project_id, receiver.url)
    submit(sessions, key.project_id)
    with closing(Courier(settings.model_copy(update={"webhook_http": False}))) as courier:
        deliver_due(courier)

    assert receiver.received == []
    assert delivery_rows(sessions)[0].log[0]["error"] == "forbidden_url"
