"""What a request writes is one transaction; what it only reads is none."""

import asyncio

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import Sessions, async_engine


async def transactions(engine: AsyncEngine, *, kind: str) -> set[int]:
    """Those of two statements of one session."""
    try:
        async with getattr(Sessions(engine), kind)() as session:
            return {await session.scalar(select(func.txid_current())) for _ in range(2)}
    finally:
        await engine.dispose()


@pytest.mark.parametrize(("kind", "count"), [("writing", 1), ("reading", 2)])
def test_statements_that_write_share_a_transaction(
    kind: str, count: int, postgres_url: str
) -> None:
    assert len(asyncio.run(transactions(async_engine(postgres_url), kind=kind))) == count


def test_a_connection_that_wrote_reads_without_a_transaction_again(postgres_url: str) -> None:
    async def modes() -> list[tuple[int, int]]:
        engine = async_engine(postgres_url)
        sessions = Sessions(engine)
        found = []
        for factory in (sessions.reading, sessions.writing, sessions.reading):
            async with factory() as session:
                backend = await session.scalar(select(func.pg_backend_pid()))
                ids = {await session.scalar(select(func.txid_current())) for _ in range(2)}
                found.append((int(backend or 0), len(ids)))
        await engine.dispose()
        return found

    backends, counts = zip(*asyncio.run(modes()), strict=True)
    assert len(set(backends)) == 1
    assert counts == (2, 1, 2)


def test_what_a_session_wrote_and_did_not_commit_is_gone(postgres_url: str) -> None:
    async def left() -> int:
        engine = async_engine(postgres_url)
        sessions = Sessions(engine)
        async with sessions.reading() as session:
            await session.execute(text("CREATE TABLE IF NOT EXISTS written (number int)"))
        async with sessions.writing() as session:
            await session.execute(text("INSERT INTO written VALUES (1)"))
        async with sessions.reading() as session:
            count = await session.scalar(text("SELECT count(*) FROM written"))
            await session.execute(text("DROP TABLE written"))
        await engine.dispose()
        return int(count or 0)

    assert asyncio.run(left()) == 0
