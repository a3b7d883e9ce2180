"""Where a part's bytes come from: a file of this host, or a storage that is asked for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.artifacts.contents import Contents
from app.artifacts.local_source import LocalSource
from app.artifacts.parts import Part
from app.artifacts.remote_source import RemoteSource
from app.storage import LocalStorage, Storage

Source = LocalSource | RemoteSource


@asynccontextmanager
async def opened(part: Part, storage: Storage, contents: Contents) -> AsyncIterator[Source]:
    """The object that has the part, of the length that was published.

    Raises:
        Problem: It is lost, or another one.
        StorageError: The storage does not answer.
    """
    if isinstance(storage, LocalStorage):
        with LocalSource.opened(storage.path(part.storage_key), part, contents) as source:
            yield source
    else:
        yield await RemoteSource.found(storage, part)
