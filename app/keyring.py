"""What one API process remembers of API keys: for some seconds who they are, and which were used.

Whether a request is let in is decided in security.py.
"""

import asyncio
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db import DATABASE_AWAY
from app.projects import queries
from app.projects.tables import Scope

logger = logging.getLogger(__name__)

REMEMBERED_SECONDS = 4.0  # a revoked key ends within 5
REMEMBERED = 10_000  # keys; as many again that are none
WRITE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class KnownKey:
    project_id: str
    secret_sha256: bytes
    scopes: frozenset[Scope]
    active: bool


# No secret has this hash.
UNKNOWN = KnownKey("", bytes(32), frozenset(), active=False)


class Keyring:
    """Keys by their ids. A flood of made-up ids drives out no key: those are kept apart."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, KnownKey]] = OrderedDict()
        self._unknown: OrderedDict[str, tuple[float, KnownKey]] = OrderedDict()
        self._used: set[str] = set()

    def recall(self, key_id: str) -> KnownKey | None:
        """What is remembered of a key; None where it has to be looked up."""
        read_at, key = self._known.get(key_id) or self._unknown.get(key_id) or (0.0, None)
        return key if key and self._clock() - read_at < REMEMBERED_SECONDS else None

    def had(self, key_id: str, secret_sha256: bytes) -> bool:
        """Whether this process has met the key, however long ago."""
        _, key = self._known.get(key_id, (0.0, UNKNOWN))
        return hmac.compare_digest(secret_sha256, key.secret_sha256)

    async def look_up(self, session: AsyncSession, key_id: str) -> KnownKey:
        read_at = self._clock()
        row = (await session.execute(queries.presented(key_id))).one_or_none()
        key = UNKNOWN
        if row is not None:
            scopes = frozenset(map(Scope, row.scopes))
            key = KnownKey(row.project_id, row.secret_sha256, scopes, row.active)
        self._remember(key_id, read_at, key)
        return key

    def note_use(self, key_id: str) -> None:
        self._used.add(key_id)

    async def keep_writing(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        """Write down every minute which keys were used, and once more when cancelled."""
        try:
            while True:
                await asyncio.sleep(WRITE_SECONDS)
                await self.write_used(sessions)
        finally:
            await self.write_used(sessions)

    async def write_used(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        used, self._used = self._used, set()
        if not used:
            return
        try:
            async with sessions.begin() as session:
                await session.execute(queries.write_last_used(used))
        except (*DATABASE_AWAY, PoolTimeoutError) as error:
            logger.warning("when keys were last used is not written: %s", type(error).__name__)
            self._used |= used

    def _remember(self, key_id: str, read_at: float, key: KnownKey) -> None:
        into = self._unknown if key is UNKNOWN else self._known
        into[key_id] = (read_at, key)
        into.move_to_end(key_id)
        if len(into) > REMEMBERED:
            into.popitem(last=False)
