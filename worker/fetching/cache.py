"""What was fetched before, by its hash, for all jobs and workers that share the data folder.

A file in use has a second name in its attempt's scratch folder: it can be given up here at any
moment, and nobody who has it notices. So no lock is needed, and none can be left behind.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from os import stat_result, utime
from pathlib import Path

from worker.fetching.repository import RemoteFile

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Cache:
    """Files below one folder, named by what is in them.

    Args:
        folder: On the file system of the scratch folders; elsewhere, nothing is kept.
        max_bytes: That are kept beside what is in use.
    """

    folder: Path
    max_bytes: int

    def take(self, file: RemoteFile, target: Path, while_reading: Callable[[], None]) -> bool:
        """Give a file a second name, if it is here and its bytes are still those."""
        kept = self.folder / file.key
        try:
            target.hardlink_to(kept)
        except OSError:
            return False
        if _is_whole(target, file, while_reading):
            utime(target)  # it is the latest used
            return True
        target.unlink()
        kept.unlink(missing_ok=True)
        return False

    def keep(self, file: RemoteFile, path: Path) -> None:
        """Keep a file whose bytes were found to be right; what cannot be kept costs time alone."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / file.key).hardlink_to(path)

    def make_room(self, size: int) -> None:
        """Give up what is not in use, the longest unused first, until so many bytes fit as well."""
        kept = self._kept()
        over = sum(status.st_size for _, status in kept) + size - self.max_bytes
        for path, status in sorted(kept, key=lambda each: _used_at(each[1])):
            if over <= 0:
                return
            if status.st_nlink == 1:
                path.unlink(missing_ok=True)
                over -= status.st_size

    def _kept(self) -> list[tuple[Path, stat_result]]:
        found = []
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):  # another worker gave it up
                    found.append((path, path.stat()))
        return found


_used_at = attrgetter("st_mtime_ns")


def _is_whole(path: Path, file: RemoteFile, while_reading: Callable[[], None]) -> bool:
    hashing, size = file.hashing(), 0
    with path.open("rb") as content:
        while block := content.read(CHUNK):
            hashing.update(block)
            size += len(block)
            while_reading()
    return size == file.size and hashing.hexdigest() == file.digest
