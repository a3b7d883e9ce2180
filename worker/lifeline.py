"""A trainer's stdin: it ends with the supervisor at the other end, and with that one's lease.

A supervisor may hang, or be stopped. Its lease then ends without it, and the job goes to another
one: whatever becomes of the first, its trainer must not go on.
"""

import os
import select
import sys
import threading
import time
from contextlib import suppress

PIPE_BYTES = 65536  # what fits: a reader that was stopped gets all of it at once
ENDED = 75  # sysexits.h's EX_TEMPFAIL: stopped, for no fault of its own


class Lifeline:
    """The supervisor's end."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe = os.fdopen(pipe, "wb", buffering=0)
        # The lease is renewed on one thread, the trainer let go of on another.
        self._lock = threading.Lock()

    def prolong(self, until: float) -> None:
        """Let the trainer live until then, by ``time.monotonic()``: all of a host have one."""
        with self._lock, suppress(BrokenPipeError, BlockingIOError):
            if not self._pipe.closed:
                os.write(self._pipe.fileno(), f"{until}\n".encode())

    def close(self) -> None:
        with self._lock:
            self._pipe.close()


def die_with_supervisor() -> None:
    """End this process once the supervisor has, or has not prolonged its life in time."""
    # Not through sys.stdin: its lock, held here for ever, would abort the interpreter's own end.
    pipe = sys.stdin.fileno()
    until, left = 0.0, None
    while select.select([pipe], [], [], left)[0] and (told := os.read(pipe, PIPE_BYTES)):
        until = max(until, *map(float, told.split()))
        left = max(0.0, until - time.monotonic())
    os._exit(ENDED)
