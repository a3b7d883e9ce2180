"""What a sweep does about datasets: uploads that broke off, lost checks, bytes nobody needs."""

import logging

from sqlalchemy.orm import Session, sessionmaker

from app.datasets import queries
from app.storage import Storage, StorageError

logger = logging.getLogger(__name__)

CHECKS_LOST = {
    "code": "internal",
    "message": f"The check of the data was lost {queries.MAX_CHECKS} times; it found nothing.",
    "remedy": "Report it to who runs this service, or upload the data in another format.",
}


def sweep_datasets(sessions: sessionmaker[Session], storage: Storage) -> None:
    """Everything once, each kind in a transaction of its own."""
    with sessions.begin() as session:
        session.execute(queries.retire_broken_off())
    with sessions.begin() as session:
        failed = queries.fail_checks(CHECKS_LOST, max_attempts=queries.MAX_CHECKS)
        for dataset_id in session.scalars(failed):
            logger.error("%s: every check of it was lost", dataset_id)
    _remove(sessions, storage)


def _remove(sessions: sessionmaker[Session], storage: Storage) -> None:
    """Bytes first: a row that outlives them is swept again, bytes without a row never."""
    with sessions() as session:
        found = list(session.scalars(queries.to_remove()))
    for dataset in found:
        try:
            storage.remove(dataset.storage_key)
        except StorageError as error:
            logger.warning("no dataset can be removed yet: %s", error)
            return
        except OSError as error:
            logger.warning("%s: cannot be removed yet: %s", dataset.storage_key, error)
            continue
        with sessions.begin() as session:
            session.execute(queries.forget(dataset.id))
