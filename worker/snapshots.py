"""Snapshots on their way between a trainer's folder and the storage, so that any host can go on.

What is in one, and whether it is whole, is known to pst_core/snapshots.py alone.
"""

import logging
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from app.artifacts import queries
from app.artifacts.tables import Artifact, Kind
from app.jobs import moves
from app.storage import StorageError
from pst_core.events import SnapshotEvent, SnapshotRejectedEvent
from pst_core.points import reached
from worker.objects import Objects, is_intact
from worker.publish import write_archive

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SnapshotStore:
    """Of one attempt.

    Args:
        objects: Where they are stored.
        folder: The trainer's.
        on_read: Called now and then while one is stored; may raise to give up.
    """

    objects: Objects
    folder: Path
    on_read: Callable[[], None]
    got_further: bool = False

    def fetch(self) -> None:
        """Put the newest ones into the folder, as far as their bytes are what was stored."""
        self.folder.mkdir()
        found: list[Artifact] = []

        def look(session: Session) -> bool:
            found.extend(session.scalars(queries.snapshots(self.objects.held.job.id)))
            return True

        self.objects.held.persist(look)
        for artifact in found:
            if not self._fetch(artifact):
                self._give_up(artifact.name, "its bytes are not those that were stored")

    def _fetch(self, artifact: Artifact) -> bool:
        """Whether it could be unpacked.

        Raises:
            StorageError: The storage does not answer, which tells nothing of the snapshot.
        """
        archive = self.folder.with_name(f"{artifact.name}.tar")
        try:
            self.objects.storage.place(artifact.storage_key, archive)
            if is_intact(archive, artifact.sha256):
                unpack(archive, self.folder / artifact.name)
                return True
        except StorageError:
            raise
        except OSError as error:
            logger.warning("%s: %s cannot be read: %s", artifact.job_id, artifact.name, error)
        finally:
            archive.unlink(missing_ok=True)
        return False

    def store(self, event: SnapshotEvent) -> None:
        """Store one that the trainer has finished; from then on its loss costs nothing before it.

        Raises:
            NotOurs: The attempt no longer runs its job.
            OSError: The storage did not take it.
        """
        job = self.objects.held.job

        data = event.model_dump(mode="json", exclude={"type"})
        # The job has got further: what was lost or failed before it counts no more.
        noted = moves.record(
            job.id, job.attempt, "snapshot", data, lost_attempts=0, failed_attempts=0
        )
        write = partial(write_archive, self.folder / event.name, event.name, on_read=self.on_read)
        self.objects.put(Kind.SNAPSHOT, event.name, write, with_it=(noted,), step=event.step)
        self.got_further = True
        self._retire(queries.outdated(job.id))
        reached("snapshot:stored")

    def reject(self, event: SnapshotRejectedEvent) -> None:
        """Give up one that the trainer found to be damaged."""
        self._give_up(event.name, event.reason)

    def _give_up(self, name: str, reason: str) -> None:
        job = self.objects.held.job
        self._retire(
            (Artifact.job_id == job.id) & (Artifact.kind == Kind.SNAPSHOT) & (Artifact.name == name)
        )
        data = {"name": name, "reason": reason}
        self.objects.held.require(moves.record(job.id, job.attempt, "snapshot_rejected", data))

    def _retire(self, which: ColumnElement[bool]) -> None:
        def write(session: Session) -> bool:
            session.execute(queries.retire(which))
            return True

        self.objects.held.persist(write)


def unpack(archive_path: Path, folder: Path) -> None:
    """Unpack an archive of ours: one folder of regular files, named as they were."""
    folder.mkdir()
    with tarfile.open(archive_path) as archive:
        for member in archive:
            source = archive.extractfile(member)
            if source is None:
                raise OSError(f"{member.name} is no regular file")
            with source, (folder / PurePosixPath(member.name).name).open("xb") as target:
                while block := source.read(1 << 20):
                    target.write(block)
