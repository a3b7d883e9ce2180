"""What every storage does, whatever it keeps its bytes in; local.py and remote.py do it.

Keys are made by us, never by a caller. No object is ever written over another.
"""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class StorageError(OSError):
    """The storage does not do its part; may pass. Says nothing that a job's owner may not read."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, reason)


class StorageSettingsError(ValueError):
    """The settings name no storage; says what is wrong with them, and no secret."""


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


@dataclass(frozen=True, slots=True)
class Stored:
    """What a storage says of an object without reading it."""

    size: int
    sha256: str | None = None
    """As it was given; a folder keeps none."""
    writer: str | None = None
    """Which of all that were writing it."""


class Storage(Protocol):
    def write(
        self, key: str, *, file_name: str | None = None
    ) -> AbstractContextManager[StoredObject]:
        """Write an object; it appears under its key, whole, when the block ends well.

        Args:
            key: Of the object.
            file_name: What clients call it that the storage sends it to itself.

        Raises:
            FileExistsError: There is one of this key.
            OSError: The storage did not take it.
        """

    def look(self, key: str) -> Stored:
        """What there is of an object.

        Raises:
            FileNotFoundError: There is none.
            OSError: The storage does not say.
        """

    def link(self, key: str) -> str | None:
        """An address that anybody may get an object from for a while, if there can be one."""

    def place(self, key: str, path: Path) -> None:
        """Have an object's bytes at a path where nothing is: a copy, or a link to them.

        Raises:
            FileNotFoundError: There is no such object; where it is a link, opening it says so.
            OSError: It cannot be read.
        """

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from one to before another, in pieces.

        Raises:
            FileNotFoundError: There is no such object.
            OSError: It cannot be read.
        """

    def present_size(self, key: str, written: int) -> int:
        """How many bytes of an object are there: none where it is known to be gone.

        Args:
            key: Of the object.
            written: How many it was given. Where looking takes long, they are believed to be there.
        """

    def remove(self, key: str) -> None:
        """Remove an object and what is left of writing it.

        There may be none: removing twice is removing once.
        """

    def keys_older_than(self, seconds: float) -> Iterator[str]:
        """The keys of what has lain here for so long, also of what was never wholly written."""
