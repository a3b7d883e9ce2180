"""The files a server of ours keeps beside its data: lock, password, log, and where its sockets are.

What the server itself writes, and when it is started, is not decided here.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOG_LIMIT = 10 * 2**20
_TAIL_BYTES = 2000
_LONGEST_BASE = 60
_HARD_TO_QUOTE = frozenset(",\"'\\")


@dataclass(frozen=True, slots=True)
class Folder:
    """A server's own folder, resolved, so that two spellings of it are one server."""

    path: Path

    def create(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def try_lock(self) -> int | None:
        """An open file that owns the folder, or None while somebody else does.

        The server inherits it, and so do its children: the folder is owned for exactly as long as
        one of them lives, whatever becomes of us, and no process id has to be believed.
        """
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    @property
    def password_file(self) -> Path:
        return self.path / "password"

    def password(self) -> str:
        return self.password_file.read_text("ascii").strip()

    def create_password(self) -> None:
        """Made once and safely on disk before any server takes it over."""
        if self.password_file.exists():
            return
        draft = self.path / "password.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        self.put_in_place(draft, self.password_file)

    def put_in_place(self, draft: Path, final: Path) -> None:
        """Renames, and sees to it that a power cut does not undo it."""
        draft.replace(final)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def sockets(self) -> Path:
        """Where the running server listens; raises OSError if no server was ever started."""
        sockets = self._link.readlink()
        if not sockets.name.startswith(self._prefix):
            # A copied folder brings along the link to the original's sockets.
            raise FileNotFoundError(f"{self._link} belongs to another folder")
        return sockets

    def create_sockets(self) -> Path:
        """A private folder with a short name, as a socket's path may have 107 bytes.

        Recorded before it is made, so that one left by a kill -9 is found by the next start. Not in
        XDG_RUNTIME_DIR: that is wiped when the user logs out, under the feet of a server.
        """
        self.remove_sockets()
        sockets = _base() / f"{self._prefix}{secrets.token_hex(4)}"
        self._link.symlink_to(sockets)
        sockets.mkdir(mode=0o700)
        return sockets

    def remove_sockets(self) -> None:
        """To be called by the owner of the lock only."""
        with suppress(OSError):
            shutil.rmtree(self.sockets(), ignore_errors=True)
        self._link.unlink(missing_ok=True)

    @property
    def _link(self) -> Path:
        return self.path / "sockets"

    @property
    def _prefix(self) -> str:
        return f"pst-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:8]}-"

    def open_log(self) -> int:
        log = os.open(self.path / "server.log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if os.fstat(log).st_size > _LOG_LIMIT:
            os.ftruncate(log, 0)
        return log

    def log_tail(self) -> str:
        log = self.path / "server.log"
        return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace") if log.exists() else ""


def _base() -> Path:
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > _LONGEST_BASE or _HARD_TO_QUOTE.intersection(base):
        return Path("/tmp")  # noqa: S108  the folder made in it is private and its name is random
    return Path(base)
