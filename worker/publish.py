"""From a trainer's output folder to an archive; when the job succeeds is the attempt's part.

The folder is untrusted: whatever wrote it had parsed a user's bytes.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from app.storage import StoredObject
from pst_core.fields import is_storable


class OutputError(Exception):
    """The trainer's output is not what it should be."""


class HashingReader:
    """Hashes what is read through it."""

    def __init__(self, file: IO[bytes], on_read: Callable[[], None]) -> None:
        self._file = file
        self._on_read = on_read
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        self._on_read()
        data = self._file.read(size)
        self.digest.update(data)
        return data


def write_archive(
    folder: Path, root: str, target: StoredObject, *, on_read: Callable[[], None]
) -> dict[str, list[dict[str, str | int]]]:
    """Write a folder's files as a tar that depends on their names and bytes alone.

    Args:
        folder: Has regular files only; anything else in it is refused.
        root: The folder's name in the archive.
        target: Where to.
        on_read: Called now and then; may raise to give up.

    Returns:
        ``files``: name, size and SHA-256 of each, in the archive's order.

    Raises:
        OutputError: There is no such folder, or in it a link, a device, or a file that somebody
            else also has a name for.
    """
    files: list[dict[str, str | int]] = []
    directory = _open(folder, os.O_DIRECTORY)
    try:
        with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            for name in _names(directory):
                with _open_regular(name, directory) as file:
                    reader = HashingReader(file, on_read)
                    entry = tarfile.TarInfo(f"{root}/{name}")  # mode 0644, no times, no owner
                    entry.size = os.fstat(file.fileno()).st_size
                    archive.addfile(entry, reader)
                files.append(
                    {"name": name, "size": entry.size, "sha256": reader.digest.hexdigest()}
                )
    finally:
        os.close(directory)
    return {"files": files}


def _names(directory: int) -> list[str]:
    # By descriptor: the folder that was opened, whatever stands at its path by now.
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries)


def _open_regular(name: str, directory: int) -> IO[bytes]:
    if not is_storable(name):
        raise OutputError("a file name is no text")
    descriptor = _open(name, os.O_NONBLOCK, dir_fd=directory)
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        file.close()
        raise OutputError(f"{name} is not a regular file of its own")
    return file


def _open(path: str | Path, flags: int, *, dir_fd: int | None = None) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=dir_fd)
    except OSError as error:
        raise OutputError(f"{os.fspath(path)!r} cannot be opened: {error.strerror}") from error
