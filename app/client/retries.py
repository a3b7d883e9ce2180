"""For how long a call goes on trying, and how long it waits between."""

import random
import time
from dataclasses import dataclass

from app.client.errors import ClientError


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """In seconds.

    Args:
        first: For how long a service is tried that has never answered yet.
        outage: For how long one is tried that has; a restart is survived.
        delay: Before the second try, about; twice as long before each further one.
        longest_delay: At the most, unless the service asks for more.
    """

    first: float = 5.0
    outage: float = 120.0
    delay: float = 0.5
    longest_delay: float = 15.0


class Outage:
    """What one call has waited since something last came of it."""

    def __init__(self, patience: Patience, *, was_reached: bool) -> None:
        self._patience = patience
        self._was_reached = was_reached
        self.tries = 0
        self._since = time.monotonic()

    def end(self) -> None:
        """Something came."""
        self._was_reached = True
        self.tries = 0
        self._since = time.monotonic()

    def absorb(self, error: ClientError, *, reached: bool) -> None:
        """Wait before another try.

        Raises:
            ClientError: The error itself: it does not pass, or has lasted for too long.
        """
        patience = self._patience
        delay = min(patience.delay * 2**self.tries, patience.longest_delay)
        # Clients that were cut at once do not all come again at once.
        delay = max(delay * random.uniform(0.5, 1.0), error.retry_after or 0.0)
        limit = patience.outage if reached or self._was_reached else patience.first
        if not error.may_pass or time.monotonic() - self._since + delay > limit:
            raise error
        self.tries += 1
        time.sleep(delay)
