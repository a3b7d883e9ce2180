"""A receiver on loopback, an endpoint that leads there, and who sends to it."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from tests.receiver import Receiver, receiving
from tests.webhooks import add_endpoint, allowing
from worker.deliveries import Courier


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def settings(settings: Settings, receiver: Receiver) -> Settings:
    return allowing(settings, receiver.port)


@pytest.fixture
def courier(settings: Settings) -> Iterator[Courier]:
    with closing(Courier(settings)) as courier:
        yield courier


@pytest.fixture
def other_courier(settings: Settings) -> Iterator[Courier]:
    """Another maintenance worker's."""
    with closing(Courier(settings)) as courier:
        yield courier


@pytest.fixture
def endpoint(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey, receiver: Receiver
) -> str:
    return add_endpoint(sessions, settings, key.project_id, receiver.url)
