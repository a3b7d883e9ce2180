"""Starting, joining and stopping a server: what PostgreSQL and Valkey have in common.

What is particular to one of them stands in ``postgres.py`` or ``valkey.py``.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from subprocess import Popen
from types import TracebackType
from typing import Protocol, Self

from app.embedded import process
from app.embedded.folder import Folder
from app.embedded.process import Program

# Guards against hanging. A start may include crash recovery; who joins may wait for an initdb.
_START_S = 60.0
_JOIN_S = 20.0
_POLL_S = 0.02


class EmbeddedError(Exception):
    """An embedded server cannot be had; the message says why and what to do instead."""


class NotReadyError(Exception):
    """The server does not answer as it should, and may do so later."""


class Engine(Protocol):
    """What differs between the two servers."""

    @property
    def name(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def folder(self) -> Folder: ...
    @property
    def works_in(self) -> Path: ...
    @property
    def socket_name(self) -> str: ...
    @property
    def stop_signal(self) -> Signals: ...

    def prepare(self, sockets: Path, lock: int, /) -> Program:
        """Makes what the server needs before its start, under the lock."""

    def check(self, sockets: Path) -> None:
        """Raises NotReadyError until the server takes our password and does work."""

    def url(self, sockets: Path) -> str: ...


@dataclass(kw_only=True, slots=True)
class Server:
    """A running server. Whoever started it stops it; whoever joined it only lets go."""

    url: str = field(repr=False)
    pid: int
    joined: bool
    _engine: Engine = field(repr=False)
    _child: Popen[bytes] | None = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        return process.works_in(self.pid, self._engine.works_in)

    def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            process.end(child, self._engine.stop_signal)
            _remove_sockets(self._engine.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def start(engine: Engine) -> Server:
    """Has the engine's server running: started by us, or joined where another process runs it.

    What is started ends with the thread that calls this (see ``app.launch``), so call it from one
    that lives as long as the server should.
    """
    try:
        engine.folder.create()
        _check_owner(engine)
        return _start_or_join(engine)
    except OSError as error:
        message = f"{engine.name} cannot use {engine.folder.path}: {error}. {engine.remedy}"
        raise EmbeddedError(message) from error


def _check_owner(engine: Engine) -> None:
    path = engine.folder.path
    if (owner := path.stat().st_uid) != os.geteuid():
        # Root could go on, and would leave files there that the owner could no longer use.
        raise EmbeddedError(f"{path} belongs to user {owner}: run as them. {engine.remedy}")


def _start_or_join(engine: Engine) -> Server:
    deadline = time.monotonic() + _JOIN_S
    while True:
        lock = engine.folder.try_lock()
        if lock is not None:
            try:
                return _start(engine, lock)
            finally:
                os.close(lock)  # From here on the server alone holds it.
        try:
            return _join(engine)
        except (NotReadyError, OSError) as error:
            if time.monotonic() > deadline:
                message = f"{engine.folder.path} is in use, but its {engine.name} does not answer"
                raise EmbeddedError(f"{message}: {error}. {_help(engine)}") from error
        time.sleep(_POLL_S)


def _join(engine: Engine) -> Server:
    sockets = engine.folder.sockets()
    pid = process.listener(sockets / engine.socket_name)
    if not process.works_in(pid, engine.works_in):
        raise NotReadyError(f"process {pid} listens there, and works in another folder")
    engine.check(sockets)
    return Server(url=engine.url(sockets), pid=pid, joined=True, _engine=engine)


def _start(engine: Engine, lock: int) -> Server:
    folder = engine.folder
    folder.create_password()
    with ExitStack() as undo:
        undo.callback(folder.remove_sockets)
        sockets = folder.create_sockets()
        program = engine.prepare(sockets, lock)
        child = process.spawn(program, log=folder.open_log(), lock=lock)
        undo.callback(process.end, child, engine.stop_signal)
        _await_ready(engine, sockets, child)
        url = engine.url(sockets)
        undo.pop_all()  # It stands: nothing is undone.
    return Server(url=url, pid=child.pid, joined=False, _engine=engine, _child=child)


def _await_ready(engine: Engine, sockets: Path, child: Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        if (status := child.poll()) is not None:
            message = f"{engine.name} ended with status {status} before it was ready"
            raise EmbeddedError(f"{message}. {_help(engine)}")
        try:
            _check_ours(engine, sockets, child.pid)
        except (NotReadyError, OSError) as error:
            if time.monotonic() > deadline:
                message = f"{engine.name} is not ready after {_START_S:.0f} s: {error}"
                raise EmbeddedError(f"{message}. {_help(engine)}") from error
        else:
            return
        time.sleep(_POLL_S)


def _check_ours(engine: Engine, sockets: Path, pid: int) -> None:
    if (other := process.listener(sockets / engine.socket_name)) != pid:
        raise NotReadyError(f"process {other} listens in its place")
    engine.check(sockets)


def _remove_sockets(folder: Folder) -> None:
    """Leaves them alone if somebody has started the next server in the meantime."""
    lock = folder.try_lock()
    if lock is not None:
        folder.remove_sockets()
        os.close(lock)


def _help(engine: Engine) -> str:
    return f"{engine.remedy}\nIts log ends with:\n{engine.folder.log_tail()}"
