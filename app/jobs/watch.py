"""Waiting until jobs change: one look at all that are waited for, on a connection of its own.

Who waits holds no connection, however many they are.
"""

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import DATABASE_AWAY
from app.jobs import queries
from app.jobs.queries import Version

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class _Waiter:
    known: Version
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Watch:
    """Of one API process; it looks only while somebody waits."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._waiters: defaultdict[str, set[_Waiter]] = defaultdict(set)
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, job_id: str, known: Version, seconds: float) -> None:
        """Return once a job is no more what is known of it, or after some time."""
        waiter = _Waiter(known)
        self._waiters[job_id].add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again())
        try:
            async with asyncio.timeout(seconds):
                await waiter.changed.wait()
        except TimeoutError:
            return
        finally:
            self._waiters[job_id].discard(waiter)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    async def _look_again(self) -> None:
        while self._waiters:
            try:
                await self._look()
            except (*DATABASE_AWAY, PoolTimeoutError) as error:
                logger.warning("who waits for jobs waits on: %s", type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        async with self._sessions() as session:
            rows = await session.execute(queries.versions(list(self._waiters)))
            versions = {job_id: (seq, at) for job_id, seq, at in rows}
        for job_id, waiters in self._waiters.items():
            for waiter in waiters:
                # One that is gone has changed, too.
                if versions.get(job_id) != waiter.known:
                    waiter.changed.set()
