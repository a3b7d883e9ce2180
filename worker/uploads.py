"""Uploaded datasets as the readers find them: under a name that tells what they are."""

from pathlib import Path

from app.datasets.references import not_there
from app.datasets.tables import Dataset, State
from app.storage import Storage
from pst_core.errors import InvalidDatasetError
from worker.objects import is_intact


def lay_out(dataset: Dataset | None, dataset_id: str, storage: Storage, folder: Path) -> Path:
    """Where a child reads an upload: placed in a folder, to be made, of its scratch.

    Args:
        dataset: What the project has by this id.
        dataset_id: As the spec names it.
        storage: Which has its bytes.
        folder: For it; the suffix of its name tells the readers how.

    Raises:
        DatasetNotFoundError: There is none, or none that is ready.
        InvalidDatasetError: Its bytes are not those that were uploaded.
    """
    if dataset is None or dataset.state != State.READY:
        raise not_there(dataset_id)
    folder.mkdir(parents=True)
    path = folder / dataset.file_name
    storage.place(dataset.storage_key, path)
    if not is_intact(path, dataset.sha256):
        raise InvalidDatasetError(
            f"{dataset_id} has other bytes than were uploaded.",
            field="dataset.ref",
            remedy="Upload it again, and name the new one.",
        )
    return path
