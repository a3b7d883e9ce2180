"""What tests share: embedded servers once a run, a migrated database wiped before each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, delete
from sqlalchemy.orm import Session, sessionmaker

from app.db import sync_engine, upgrade
from app.embedded import start_postgres, start_valkey
from app.projects.service import NewKey, create_key
from app.settings import Settings
from app.tables import Base
from tests import bucket as buckets
from tests.bucket import Bucket
from tests.wake_ups import WakeUps

# Tests mean the CPU, also where there is a GPU; `make gpu` shows one to those that can use it.
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("PST_TEST_GPU", "")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_postgres(tmp_path_factory.mktemp("pg") / "postgres", durable=False) as server:
        yield server.url


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_valkey(tmp_path_factory.mktemp("vk") / "valkey", durable=False) as server:
        yield server.url


@pytest.fixture(scope="session")
def migrated_engine(postgres_url: str) -> Iterator[Engine]:
    upgrade(postgres_url)
    engine = sync_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(migrated_engine: Engine) -> Engine:
    """The database, empty. DELETE in foreign-key order is many times faster than TRUNCATE."""
    with migrated_engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
    return migrated_engine


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)


@pytest.fixture
def file_root(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    return root


@pytest.fixture
def settings(migrated_engine: Engine, valkey_url: str, tmp_path: Path, file_root: Path) -> Settings:
    return Settings(
        data=tmp_path / "data",
        database_url=migrated_engine.url.render_as_string(hide_password=False),
        broker_url=valkey_url,
        file_roots=(file_root,),
        lease_seconds=5,
        renew_seconds=0.2,
        grace_seconds=5,
        backoff_seconds=1e-6,
    )


@pytest.fixture
def wake_ups(valkey_url: str) -> WakeUps:
    return WakeUps(valkey_url)


@pytest.fixture(scope="session")
def running_bucket() -> Iterator[Bucket]:
    with buckets.running() as bucket:
        yield bucket


@pytest.fixture
def bucket(running_bucket: Bucket) -> Iterator[Bucket]:
    """One of S3, which does what it should; each test has a prefix of its own in it."""
    yield running_bucket
    running_bucket.heal()


@pytest.fixture
def key(engine: Engine) -> NewKey:
    with engine.begin() as connection:
        return create_key(connection, name="test")


@pytest.fixture
def foreign_key(engine: Engine) -> NewKey:
    with engine.begin() as connection:
        return create_key(connection, name="test", project="another")
