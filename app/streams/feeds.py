"""The open streams of this process, and the one poller that tells them what is new.

A stream holds no database connection: the poller asks for all of them at once.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

import anyio
from sqlalchemy import Select
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import DATABASE_AWAY
from app.jobs.states import Status
from app.jobs.tables import JobEvent
from app.problems import Problem
from app.security import valid_keys
from app.settings import Settings
from app.streams.standing import Standing, standings, tails

Row = TypeVar("Row")

logger = logging.getLogger(__name__)

KEY_CHECK_SECONDS = 2.0
READERS = 3  # of the streams that read for themselves, at the same time
RETRY_AFTER = {"Retry-After": "5"}


@dataclass(slots=True)
class Feed:
    """What is known of a job that is streamed, the same for all its streams."""

    standing: Standing
    events: Sequence[JobEvent] = ()
    """The newest ones, without a gap."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, standing: Standing, events: Sequence[JobEvent]) -> None:
        self.standing, self.events = standing, events
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Whether something changed within that time; looked at from here on."""
        with anyio.move_on_after(seconds):
            await self.changed.wait()
            return True
        return False


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One client's; cancelling its scope ends it."""

    job_id: str
    key_id: str
    feed: Feed
    scope: anyio.CancelScope


class Feeds:
    """All streams of a process, within their limits."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], settings: Settings) -> None:
        self._sessions = sessions
        self._readers = asyncio.Semaphore(READERS)
        self.settings = settings
        self._streams: set[Stream] = set()
        self._feeds: dict[str, Feed] = {}
        self._poller: asyncio.Task[None] | None = None
        self._keys_checked_at = time.monotonic()
        self._closed = False

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @contextmanager
    def open(self, job_id: str, key_id: str, standing: Standing) -> Iterator[Stream]:
        """Have a stream of a job.

        Args:
            job_id: Of the job.
            key_id: Of the key it was asked for with; it ends when that is no longer good.
            standing: How the job stood just now.

        Raises:
            Problem: 429 where there are too many, 503 where the process is about to end.
        """
        self._check_limits(key_id)
        feed = self._feeds.setdefault(job_id, Feed(standing))
        scope = anyio.CancelScope(deadline=anyio.current_time() + self.settings.stream_max_seconds)
        stream = Stream(job_id, key_id, feed, scope)
        self._streams.add(stream)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            if not any(other.feed is feed for other in self._streams):
                self._feeds.pop(job_id, None)

    async def read(self, query: Select[Row]) -> list[Row]:
        """What a stream reads for itself, later where the database is away or all connections busy.

        A few at a time: streams never take the connections that requests need.
        """
        while True:
            try:
                async with self._readers, self._sessions() as session:
                    return list(await session.scalars(query))
            except (*DATABASE_AWAY, PoolTimeoutError) as error:
                logger.warning("a stream waits for the database: %s", type(error).__name__)
            await asyncio.sleep(self.settings.stream_poll_seconds)

    def close(self) -> None:
        """End all streams, and open no more: their clients come again to who serves then."""
        self._closed = True
        self._cut(self._streams)
        if self._poller is not None:
            self._poller.cancel()

    def _check_limits(self, key_id: str) -> None:
        if self._closed:
            raise Problem(
                503, "shutting_down", "This process is about to end.", headers=RETRY_AFTER
            )
        mine = sum(stream.key_id == key_id for stream in self._streams)
        if mine >= self.settings.max_streams_per_key:
            whose, limit = "This key", self.settings.max_streams_per_key
        elif len(self._streams) >= self.settings.max_streams:
            whose, limit = "The service", self.settings.max_streams
        else:
            return
        raise Problem(
            429,
            "too_many_streams",
            f"{whose} has {limit} streams open, as many as it may.",
            remedy="Close some, or ask for the events as JSON.",
            headers=RETRY_AFTER,
        )

    async def _poll(self) -> None:
        try:
            while self._streams:
                try:
                    await self._look()
                except (*DATABASE_AWAY, PoolTimeoutError) as error:
                    logger.warning("streams wait for the database: %s", type(error).__name__)
                await asyncio.sleep(self.settings.stream_poll_seconds)
        finally:
            # Should this ever fail, nobody is left waiting: clients come again.
            self._cut(self._streams)

    async def _look(self) -> None:
        job_ids = set(self._feeds)
        async with self._sessions() as session:
            rows = await session.execute(standings(list(job_ids)))
            seen = {
                job_id: Standing(Status(status), attempt, newest)
                for job_id, status, attempt, newest in rows
            }
            self._cut({stream for stream in self._streams if stream.job_id in job_ids - set(seen)})
            await self._tell(session, seen)
            if time.monotonic() - self._keys_checked_at > KEY_CHECK_SECONDS:
                self._keys_checked_at = time.monotonic()
                key_ids = {stream.key_id for stream in self._streams}
                bad = key_ids - await valid_keys(session, list(key_ids))
                self._cut({stream for stream in self._streams if stream.key_id in bad})

    async def _tell(self, session: AsyncSession, seen: Mapping[str, Standing]) -> None:
        # A request may have seen more than this look, which began before it.
        changed = {
            job_id: standing
            for job_id, standing in seen.items()
            if job_id in self._feeds and standing.newest > self._feeds[job_id].standing.newest
        }
        if not changed:
            return
        events = await session.scalars(tails(list(changed)))
        newest = {
            job_id: list(group) for job_id, group in groupby(events, lambda event: event.job_id)
        }
        for job_id, standing in changed.items():
            if feed := self._feeds.get(job_id):
                feed.update(standing, newest.get(job_id, []))

    @staticmethod
    def _cut(streams: Collection[Stream]) -> None:
        for stream in streams:
            stream.scope.cancel()
