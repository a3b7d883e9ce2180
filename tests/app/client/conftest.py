"""Clients that lose no time between their tries, straight at the API or behind a bad connection."""

from collections.abc import Iterator

import pytest

from app.client import Client, Patience
from app.projects.service import NewKey
from tests.app.served import Served
from tests.app.tampering import Way, way_to


@pytest.fixture
def quick() -> Patience:
    return Patience(delay=0.01, longest_delay=0.02)


@pytest.fixture
def way(served: Served) -> Iterator[Way]:
    with way_to(served.url) as way:
        yield way


@pytest.fixture
def far(way: Way, key: NewKey, quick: Patience) -> Iterator[Client]:
    """A client behind a way that may fail."""
    with Client(way.url, key.key, patience=quick) as client:
        yield client
