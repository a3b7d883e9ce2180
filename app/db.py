"""Engines, the one session dependency, and migrations. Tables and queries live with their nouns."""

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from fastapi import Depends, Request
from sqlalchemy import Engine, MetaData, NullPool, create_engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

from pst_core.points import reached

# What the driver raises where the database is gone, going, or not the one that takes writes.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)

READS = frozenset({"GET", "HEAD"})

POOL_SIZE = 10  # several API processes must fit into PostgreSQL's 100 connections
POOL_SECONDS = 5  # a request that gets no connection by then is answered with 503

# Short statements on single rows: what takes longer waits on something that is wrong.
CONNECT_ARGS = {
    "connect_timeout": 5,
    # A peer that vanished without a word is noticed within some seconds, not after minutes.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "options": "-c lock_timeout=5s -c statement_timeout=15s"
    " -c idle_in_transaction_session_timeout=30s",
}


class SchemaError(Exception):
    """The database's schema is not this release's; the message says what to do."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def async_engine(url: str) -> AsyncEngine:
    """The pool of an API process; what writes takes its connections by `Sessions.writing`."""
    return create_async_engine(
        url,
        # Each statement by itself: beginning and ending a transaction would cost as much again.
        isolation_level="AUTOCOMMIT",
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=True,
        connect_args=CONNECT_ARGS,
    )


def sync_engine(url: str) -> Engine:
    """For the worker: no pool, since its processes are many, and each asks seldom."""
    return create_engine(url, poolclass=NullPool, connect_args=CONNECT_ARGS)


def pooled_engine(url: str, size: int) -> Engine:
    """For what asks every second, on some threads."""
    return create_engine(
        url, pool_size=size, max_overflow=0, pool_pre_ping=True, connect_args=CONNECT_ARGS
    )


class Sessions:
    """Of one engine: those of requests that may write, and those of requests that only read."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.reading = async_sessionmaker(engine, expire_on_commit=False)
        writing = engine.execution_options(isolation_level="READ COMMITTED")
        self.writing = async_sessionmaker(writing, expire_on_commit=False)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One transaction a request that may write. Nobody else in ``app/`` commits."""
    sessions: Sessions = request.app.state.sessions
    if request.method in READS:
        async with sessions.reading() as session:
            yield session
        return
    async with sessions.writing() as session:
        yield session
        reached("request:done")
        await session.commit()
        reached("request:committed")


# Function scope: the commit happens before the answer is sent, so a failed one is a 500, not a 202.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def release(session: AsyncSession) -> None:
    """Give a request's connection back before it waits; only where nothing was written."""
    await session.rollback()


def alembic_config(url: str) -> Config:
    spec = importlib.util.find_spec("migrations")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package `migrations` is not installed")
    config = Config()
    config.set_main_option("script_location", str(Path(spec.origin).parent).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Bring the schema to the newest revision; waits for another process that is doing so.

    Raises:
        SchemaError: It is a later release's.
    """
    try:
        command.upgrade(alembic_config(url), "head")
    except CommandError as error:
        # Of revisions that all came with this release, none can be missing but one that did not.
        raise SchemaError(
            f"the database cannot be brought to this release's schema ({error}): a later release "
            "has upgraded it; run that one, or restore the backup from before"
        ) from error
