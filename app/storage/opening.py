"""The storage that an installation's settings name."""

from app.settings import Settings
from app.storage.contract import Storage
from app.storage.local import LocalStorage

CHECK_SECONDS = 10.0  # somebody waits at a terminal


def open_storage(settings: Settings) -> Storage:
    """The folder, or the bucket; it is not asked whether it is there.

    Raises:
        StorageSettingsError: There is no such provider, or no such option of it.
    """
    if not settings.stores_remotely:
        return LocalStorage(settings.storage_dir)
    from app.storage.remote import RemoteStorage  # whoever has a folder needs none of it

    return RemoteStorage.of(settings)


def check_storage(settings: Settings) -> None:
    """Ask a bucket, briefly, whether it is there and lets us in; of a folder nothing is asked.

    Raises:
        StorageSettingsError: It is not, or it does not.
        StorageError: It does not say, which may pass.
    """
    if settings.stores_remotely:
        from app.storage.client import Client

        Client.of(settings, patience=CHECK_SECONDS, retries=1).check()
