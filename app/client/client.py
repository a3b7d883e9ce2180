"""The client: one address, one key, and what can be asked for, noun by noun."""

from types import TracebackType
from typing import Self

from app.catalog.schemas import Methods, Models
from app.client.datasets import Datasets
from app.client.estimates import Estimates
from app.client.jobs import Jobs
from app.client.keys import Keys
from app.client.retries import Patience
from app.client.sweeps import Sweeps
from app.client.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """A service.

    Args:
        url: Its address.
        key: An API key of the project.
        patience: With an outage.

    Every call raises ClientError, of whose kinds errors.py tells.
    """

    def __init__(
        self, url: str = DEFAULT_URL, key: str = "", *, patience: Patience | None = None
    ) -> None:
        self._transport = Transport(url, key, patience or Patience())
        self.jobs = Jobs(self._transport)
        self.datasets = Datasets(self._transport)
        self.sweeps = Sweeps(self._transport)
        self.estimates = Estimates(self._transport)
        self.keys = Keys(self._transport)

    def models(self) -> Models:
        return self._transport.get("/models", Models)

    def methods(self) -> Methods:
        return self._transport.get("/methods", Methods)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
