"""Where published bytes lie: a folder, written so that a reader never sees half an object.

Object stores come behind the same few methods; rows that name objects are app/artifacts'.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from pst_core.points import reached

TEMPORARY = ".tmp-"


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


@dataclass(slots=True)
class StoredObject:
    """Counts and hashes what is written to it."""

    file: Writable
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    @property
    def sha256(self) -> str:
        return str(self.digest.hexdigest())


class LocalStorage:
    """Objects as files below one folder; keys are made by us, never by a caller."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def write(self, key: str) -> Iterator[StoredObject]:
        """Write an object; it appears under its key, whole, when the block ends well."""
        path = self.path(key)
        temporary = self._temporary(path)
        try:
            with self._create(temporary) as file:
                stored = StoredObject(file)
                yield stored
                file.flush()
                os.fsync(file.fileno())
            reached("storage:written")
            # A link, unlike a rename, never replaces what is there already.
            path.hardlink_to(temporary)
            reached("storage:linked")
            for folder in (path.parent, *path.parent.relative_to(self.root).parents):
                self._sync_folder(self.root / folder)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def _create(path: Path) -> IO[bytes]:
        """A new file, in folders that are made for it."""
        while True:
            # Whoever removes objects removes folders that are empty, and this one is so at first.
            with suppress(FileNotFoundError):
                path.parent.mkdir(parents=True, exist_ok=True)
                return path.open("xb")

    def remove(self, key: str) -> None:
        """Remove an object, what is left of writing it, and the folders that are empty then.

        There may be none: removing twice is removing once.
        """
        path = self.path(key)
        for each in (path, self._temporary(path)):
            each.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root:
                return
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # something else is in it
                return

    def keys_older_than(self, seconds: float) -> Iterator[str]:
        """The keys of what has lain here for so long, also of what was never wholly written."""
        latest = time.time() - seconds
        for path in self.root.rglob("*"):
            with suppress(FileNotFoundError):  # it was removed meanwhile
                if path.is_file() and path.stat().st_mtime < latest:
                    key = path.with_name(path.name.removeprefix(TEMPORARY))
                    yield str(key.relative_to(self.root))

    def path(self, key: str) -> Path:
        return self.root / key

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(f"{TEMPORARY}{path.name}")

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
