"""Where published bytes lie: a folder, written so that a reader never sees half an object.

Object stores come behind the same few methods; rows that name objects are app/artifacts'.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


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
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{path.name}")
        try:
            with temporary.open("wb") as file:
                stored = StoredObject(file)
                yield stored
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, never replaces what is there already.
            path.hardlink_to(temporary)
            for folder in (path.parent, *path.parent.relative_to(self.root).parents):
                self._sync_folder(self.root / folder)
        finally:
            temporary.unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        return self.root / key

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
