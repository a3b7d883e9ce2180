"""Work that goes on in a thread beside a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(work: Callable[[], object], *, every: float) -> Iterator[None]:
    """Meanwhile something is done again and again, with so many seconds between."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every):
            work()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
