"""Objects as files of a folder, written so that a reader never sees half of one.

What the methods promise is contract.py's; rows that name objects are app/artifacts'.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from app.storage.contract import Stored, StoredObject
from pst_core.points import reached

TEMPORARY = ".tmp-"
CHUNK = 1 << 20


class LocalStorage:
    """Objects as files below one folder; keys are made by us, never by a caller."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def write(self, key: str, *, file_name: str | None = None) -> Iterator[StoredObject]:
        """As the contract has it; whoever sends the bytes on gives them their name."""
        del file_name
        path = self.path(key)
        temporary = self._temporary(path)
        # Not in the block: where another is being written, that one's stays.
        file = self._create(temporary)
        try:
            with file:
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

    def look(self, key: str) -> Stored:
        return Stored(self.path(key).stat().st_size)

    def link(self, key: str) -> None:
        """There is none: what comes from here comes through the API."""

    def place(self, key: str, path: Path) -> None:
        path.symlink_to(self.path(key))

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        with self.path(key).open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
                start += len(chunk)
                yield chunk

    def present_size(self, key: str, written: int) -> int:
        del written  # looking costs nothing
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return 0

    def remove(self, key: str) -> None:
        """As the contract has it, and the folders that are empty then."""
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
