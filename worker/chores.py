"""Starts one-shot processes for what is to be done now and then: checks of data, estimates.

What such a process does is its module's; that there is something to do, the database says.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine, Select
from sqlalchemy.exc import SQLAlchemyError

from app import launch

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Chore:
    """Runs ``python -m MODULE`` again and again while there is work, one process at a time.

    A process a piece of work: whatever that leaks or breaks ends with it, and its own children are
    no siblings of anybody else's.

    Args:
        module: Takes one piece of work, does it and ends; with a status other than 0 where it
            could not, and then the next look is the timer's.
        waits: A statement that says whether there is work.
        engine: Where it is asked.
        seconds: How often that is asked although nobody said so.
    """

    module: str
    waits: Callable[[], Select[bool]]
    engine: Engine
    seconds: float
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        # The processes die with this thread, so it waits for each.
        threading.Thread(target=self._run, name=self.module, daemon=True).start()

    def wake(self) -> None:
        """Look for work at once."""
        self._woken.set()

    def shut_down(self) -> None:
        """Start no more; what runs is ended with this process, and done again elsewhere."""
        self._stopping.set()
        self._woken.set()

    def work_off(self) -> None:
        """Start processes until there is no work left, or one could not do it."""
        while not self._stopping.is_set() and self._any_work():
            status = subprocess.call(
                launch.command([sys.executable, "-P", "-m", self.module]),
                stdin=subprocess.DEVNULL,
            )
            if status != os.EX_OK:
                # Which says that another process is at it, or has told by itself what is wrong.
                if status != os.EX_TEMPFAIL:
                    logger.error("%s ended with status %d", self.module, status)
                return

    def _any_work(self) -> bool:
        with self.engine.connect() as connection:
            return bool(connection.scalar(self.waits()))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.work_off()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("%s: cannot look for work: %s", self.module, error)
            self._woken.wait(self.seconds)
            self._woken.clear()
