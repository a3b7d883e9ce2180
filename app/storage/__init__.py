"""Where published bytes lie: a folder, or a bucket of an object store, behind one contract."""

from app.storage.contract import (
    Storage,
    StorageError,
    StorageSettingsError,
    Stored,
    StoredObject,
)
from app.storage.local import LocalStorage
from app.storage.opening import check_storage, open_storage

__all__ = [
    "LocalStorage",
    "Storage",
    "StorageError",
    "StorageSettingsError",
    "Stored",
    "StoredObject",
    "check_storage",
    "open_storage",
]
