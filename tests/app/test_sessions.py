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
