"""The storage that an installation's settings name."""

from app.settings import Settings
from app.storage.contract import Storage
from app.storage.local import LocalStorage


def open_storage(settings: Settings) -> Storage:
    """The folder, or the bucket; it is not asked whether it is there.

    Raises:
        StorageSettingsError: There is no such provider, or no such option of it.
    """
    if not settings.stores_remotely:
        return LocalStorage(settings.storage_dir)
    from app.storage.remote import RemoteStorage  # whoever has a folder needs none of it

    return RemoteStorage.of(settings)
