"""A way to a server on which connections are cut and bytes are changed, as on a bad network."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK = 65536


@dataclass
class Way:
    """What happens on it; connections are counted from the first on."""

    url: str = ""
    cuts: list[int] = field(default_factory=list)
    """Bytes of answers that each of the first connections gets before it is cut."""
    change: Callable[[bytes], bytes] = bytes
    """What becomes of answers."""
    connections: int = 0


@contextmanager
def way_to(url: str) -> Iterator[Way]:
    """An address that leads to another."""
    target = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))
    way = Way()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        way.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    number = way.connections
                    way.connections += 1
                    left = way.cuts[number] if number < len(way.cuts) else None
                    server = socket.create_connection(target)
                    for one in (
                        threading.Thread(target=_ask, args=(client, server)),
                        threading.Thread(target=_answer, args=(server, client, way, left)),
                    ):
                        threads.append(one)
                        one.start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield way
        finally:
            # Closing alone would leave `accept` waiting.
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def _ask(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while data := client.recv(CHUNK):
            server.sendall(data)
    _end(server)


def _answer(server: socket.socket, client: socket.socket, way: Way, left: int | None) -> None:
    with suppress(OSError):
        while data := server.recv(CHUNK):
            if left is not None and len(data) > left:
                client.sendall(data[:left])
                break
            left = None if left is None else left - len(data)
            client.sendall(way.change(data))
    _end(client)
    _end(server)
    client.close()
    server.close()


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
