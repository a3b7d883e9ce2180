"""Whether stored bytes are still those that were published: read and hashed once, then remembered.

A file is known again by where it lies, its length and when it was last changed, so what is put
in its place is read anew.
"""

import asyncio
import hashlib
import os
from collections import OrderedDict

import anyio

REMEMBERED = 10_000
AT_ONCE = 4  # readings; each keeps a core and a disk busy
CHUNK = 1 << 20

# Device, inode, size, time of the last change to the bytes and to the inode; start, length.
_Place = tuple[int, int, int, int, int, int, int]


class Contents:
    """SHA-256 of parts of files."""

    def __init__(self) -> None:
        self._found: OrderedDict[_Place, asyncio.Task[str]] = OrderedDict()
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def sha256(self, descriptor: int, start: int, size: int) -> str:
        """The hash of ``size`` bytes of an open file from ``start`` on.

        However many ask at once, it is computed once; also when they have gone meanwhile.

        Raises:
            OSError: They cannot be read.
        """
        status = os.fstat(descriptor)
        times = (status.st_mtime_ns, status.st_ctime_ns)
        place = (status.st_dev, status.st_ino, status.st_size, *times, start, size)
        if place not in self._found:
            # The caller may close its own descriptor before this has ended.
            reading = self._read(os.dup(descriptor), start, size)
            self._found[place] = asyncio.create_task(reading)
            while len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        try:
            return await asyncio.shield(self._found[place])
        except OSError:
            self._found.pop(place, None)
            raise

    async def _read(self, descriptor: int, start: int, size: int) -> str:
        return await anyio.to_thread.run_sync(_hash, descriptor, start, size, limiter=self._limiter)


def _hash(descriptor: int, start: int, size: int) -> str:
    digest = hashlib.sha256()
    try:
        for offset in range(start, start + size, CHUNK):
            digest.update(os.pread(descriptor, min(CHUNK, start + size - offset), offset))
    finally:
        os.close(descriptor)
    return digest.hexdigest()
