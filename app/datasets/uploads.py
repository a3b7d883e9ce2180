"""Bringing an upload's bytes into the storage: counted, hashed, and paid for before they are kept.

What becomes of them then is service.py's.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import CancelScope
from anyio.to_thread import run_sync
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.requests import ClientDisconnect

from app.datasets import queries
from app.datasets.offers import Offer
from app.ids import new_id
from app.problems import Problem, storage_unavailable
from app.projects import quotas
from app.settings import Settings
from app.storage import Storage, StoredObject
from pst_core.points import reached

PIECE = 2**20  # bytes that are hashed and written at once, on a thread
LEASE_SECONDS = 90.0  # more than a body may stall
PROLONG_SECONDS = 10.0
GZIP = b"\x1f\x8b"


@dataclass(kw_only=True, slots=True)
class Upload:
    """One upload, from its announcement until its bytes are all there or none are.

    Its transactions are its own, and short: a request's connection is not held while a client
    sends for an hour. What a killed process leaves of it a sweep finds by its lease.
    """

    sessions: async_sessionmaker[AsyncSession]
    settings: Settings
    storage: Storage
    project_id: str
    offer: Offer
    id: str = field(default_factory=lambda: new_id("ds"))
    size: int = 0
    sha256: str = ""
    gzip: bool = False
    _charged: int = 0
    _prolonged_at: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.project_id}/datasets/{self.id}"

    async def receive(self, body: AsyncIterator[bytes]) -> None:
        """Store a body under the upload's key.

        Raises:
            Problem: It is not what it was declared to be, breaks off, or is more than the project
                may store. Nothing is left of it then.
        """
        await self._announce()
        try:
            await self._store(body)
        except BaseException as error:
            with CancelScope(shield=True):
                await self._withdraw()
            if isinstance(error, ClientDisconnect):
                raise _broken_off() from error
            if isinstance(error, OSError):
                raise storage_unavailable() from error
            raise

    async def _announce(self) -> None:
        """Write the row, before any bytes, and charge it with the length that is declared."""
        async with self.sessions.begin() as session:
            self._charged = await quotas.grant(
                session, self.settings, self.project_id, held=0, needed=self.offer.length or 0
            )
            row = {
                "id": self.id,
                "project_id": self.project_id,
                "name": self.offer.name,
                "format": self.offer.format,
                "storage_key": self.key,
                "charged_bytes": self._charged,
            }
            await session.execute(queries.announce(row, LEASE_SECONDS))
        self._prolonged_at = asyncio.get_running_loop().time()
        reached("upload:announced")

    async def _store(self, body: AsyncIterator[bytes]) -> None:
        async with _writing(self.storage, self.key, self._prolong) as stored:
            async for piece in _pieces(body):
                if not stored.size:
                    self.gzip = piece.startswith(GZIP) and self.offer.format != "parquet"
                await self._pay(stored.size + len(piece))
                await run_sync(stored.write, piece)
            self.size, self.sha256 = stored.size, stored.sha256
            self._check(stored)
        reached("upload:stored")

    async def _pay(self, size: int) -> None:
        """Have as many bytes granted, and say now and then that the upload goes on."""
        now = asyncio.get_running_loop().time()
        if size > self._charged or now - self._prolonged_at >= PROLONG_SECONDS:
            await self._prolong(size)

    async def _prolong(self, size: int = 0) -> None:
        async with self.sessions.begin() as session:
            if size > self._charged:
                self._charged = await quotas.grant(
                    session, self.settings, self.project_id, held=self._charged, needed=size
                )
            prolonged = queries.prolong(self.id, LEASE_SECONDS, self._charged)
            if (await session.execute(prolonged)).first() is None:
                raise given_up()
        self._prolonged_at = asyncio.get_running_loop().time()

    def _check(self, stored: StoredObject) -> None:
        for header, digest in self.offer.digests.items():
            if digest != stored.digest.digest():
                raise Problem(
                    422,
                    "digest_mismatch",
                    f"The body's SHA-256 is {stored.sha256}, and {header} says another.",
                    field=header,
                    remedy="Send it again: it was changed on its way, or is another file.",
                )
        if self.offer.gzip and not self.gzip:
            raise Problem(
                422,
                "invalid_dataset",
                "The Content-Encoding is gzip, and the body does not begin as gzip does.",
                field="Content-Encoding",
                remedy="Leave it out, or compress the body.",
            )

    async def _withdraw(self) -> None:
        """Leave nothing: bytes first, as a row without them is found again."""
        await run_sync(self.storage.remove, self.key)
        async with self.sessions.begin() as session:
            await session.execute(queries.drop(self.id))


async def _pieces(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held = bytearray()
    async for chunk in body:
        held += chunk
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


@asynccontextmanager
async def _writing(
    storage: Storage, key: str, prolong: Callable[[], Awaitable[None]]
) -> AsyncIterator[StoredObject]:
    """What `storage.write` is, with all that touches the storage on a thread.

    Where that takes long once all bytes are here, the upload is prolonged meanwhile.
    """
    writing = storage.write(key)
    stored = await run_sync(writing.__enter__)
    try:
        yield stored
    except BaseException as error:
        with CancelScope(shield=True):
            await run_sync(writing.__exit__, type(error), error, error.__traceback__)
        raise
    ending = asyncio.ensure_future(run_sync(writing.__exit__, None, None, None))
    try:
        while not (await asyncio.wait({ending}, timeout=PROLONG_SECONDS))[0]:
            await prolong()
    finally:
        # Whoever removes it must not do so while it is still coming.
        with CancelScope(shield=True):
            await ending


def given_up() -> Problem:
    return Problem(
        409,
        "upload_given_up",
        "The upload was deleted, or the service lost sight of it, before its end.",
        remedy="Send it again.",
    )


def _broken_off() -> Problem:
    return Problem(400, "bad_request", "The body breaks off.", remedy="Send it again.")
