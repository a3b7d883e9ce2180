"""A live API for those who follow the docs, and what happens behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.main import create_app
from app.projects.service import NewKey, create_key
from app.projects.tables import Scope
from app.settings import Settings
from tests.app.served import Served, serve
from tests.docs.world import World


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    with serve(create_app(settings)) as served:
        yield served


@pytest.fixture
def admin(sessions: sessionmaker[Session]) -> NewKey:
    with sessions.begin() as session:
        return create_key(session.connection(), name="reader", scopes=[Scope.ADMIN])


@pytest.fixture
def world(
    sessions: sessionmaker[Session], settings: Settings, admin: NewKey, tmp_path: Path
) -> World:
    return World(sessions, settings, admin.project_id, tmp_path)
