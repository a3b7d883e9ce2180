"""What trainers print, within bounds however much that is: the beginning, and the end."""

import logging
import threading
import time
from collections.abc import Callable

from app.artifacts.tables import Kind
from app.storage import StoredObject
from worker.objects import Objects

logger = logging.getLogger(__name__)

MAX_LINE = 8192  # bytes
HEAD = TAIL = 512 * 1024  # bytes of an attempt
RECENT = 4096  # bytes
LINE_CUT = b" [cut]"
FIRST_PART_SECONDS = 10.0
LAST_PART_SECONDS = 60.0


class JobLog:
    """Fed by a thread that reads a trainer's output, taken from by another.

    Args:
        hide: Takes our secrets out of whole lines; None: who prints knows none.
    """

    def __init__(self, hide: Callable[[bytes], bytes] | None = None) -> None:
        self._hide = hide
        self._held = b""
        self._lock = threading.Lock()
        self._line = 0
        self._head_left = HEAD
        self._new = bytearray()
        self._recent = b""
        self._tail = bytearray()
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        with self._lock:
            self._add(self._whole_lines(self._cut_lines(data)))

    def _whole_lines(self, cut: bytes) -> bytes:
        """Without secrets; the rest of a line, which may hold half of one, is waited for."""
        if self._hide is None:
            return cut
        whole, newline, self._held = (self._held + cut).rpartition(b"\n")
        return self._hide(whole + newline)

    def _add(self, cut: bytes) -> None:
        self._recent = (self._recent + cut)[-RECENT:]
        self._new += cut[: self._head_left]
        self._tail += cut[self._head_left :]
        self._head_left -= min(self._head_left, len(cut))
        if len(self._tail) > 2 * TAIL:
            self._shorten_tail()

    def _shorten_tail(self) -> None:
        surplus = max(0, len(self._tail) - TAIL)
        self._dropped += surplus
        del self._tail[:surplus]

    def _cut_lines(self, data: bytes) -> bytes:
        cut = bytearray()
        for number, piece in enumerate(data.split(b"\n")):
            if number:
                cut += b"\n"
                self._line = 0
            cut += piece[: max(0, MAX_LINE - self._line)]
            # Once past the limit, it stays past it for the rest of the line.
            if self._line <= MAX_LINE < self._line + len(piece):
                cut += LINE_CUT
            self._line += len(piece)
        return bytes(cut)

    def take(self) -> bytes:
        """What is new of the beginning."""
        with self._lock:
            new, self._new = bytes(self._new), bytearray()
            return new

    def end(self) -> bytes:
        """All that is left, the beginning's rest and the end."""
        with self._lock:
            if self._hide is not None:
                self._add(self._hide(self._held))
                self._held = b""
            self._shorten_tail()
            rest, self._new = bytes(self._new), bytearray()
            gap = f"\n[{self._dropped} bytes left out]\n".encode() if self._dropped else b""
            return rest + gap + bytes(self._tail)

    def recent(self) -> str:
        """The last lines, whether or not they were taken."""
        with self._lock:
            held = self._hide(self._held) if self._hide else b""
            return (self._recent + held).decode("utf-8", errors="replace")


class LogParts:
    """Stores an attempt's log while it grows: new parts soon at first, then less and less often."""

    def __init__(self, log: JobLog, objects: Objects) -> None:
        self._log = log
        self._objects = objects
        self._wait = FIRST_PART_SECONDS
        self._due = time.monotonic() + self._wait
        self._parts = 0

    def store_if_due(self) -> None:
        if time.monotonic() < self._due:
            return
        self._wait = min(2 * self._wait, LAST_PART_SECONDS)
        self._due = time.monotonic() + self._wait
        self._store(self._log.take())

    def store_rest(self) -> None:
        self._store(self._log.end())

    def _store(self, text: bytes) -> None:
        if not text:
            return
        self._parts += 1
        name = f"log-{self._parts:04d}.txt"

        def write(target: StoredObject) -> dict[str, object]:
            target.write(text)
            return {}

        try:
            self._objects.put(Kind.LOG, name, write)
        except OSError as error:
            # A job is worth more than its log.
            logger.warning("%s: a part of the log is lost: %s", self._objects.held.job.id, error)
