"""What an attempt stores: first a row, then the bytes, then the row says they are there.

Both the row's and the bytes' names hold the attempt: no attempt ever writes over another's.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Executable

from app.artifacts import queries
from app.artifacts.tables import Kind, State
from app.ids import new_id
from app.storage import Storage, StoredObject
from pst_core.points import reached
from worker.held import HeldJob


@dataclass(frozen=True, slots=True)
class Objects:
    held: HeldJob
    storage: Storage

    def put(
        self,
        kind: Kind,
        name: str,
        write: Callable[[StoredObject], Mapping[str, Any]],
        *,
        with_it: tuple[Executable, ...] = (),
        **columns: object,
    ) -> None:
        """Store one object.

        Args:
            kind: Of the artifact. A checkpoint is shown later, when its job succeeds; all others
                are from here on.
            name: Of the object; one of its attempt.
            write: Writes the bytes, and returns columns that only then are known.
            with_it: Statements of the transaction in which it is shown; each must match a row.
            columns: Of its row.

        Raises:
            NotOurs: The attempt no longer runs its job.
            OSError: The storage did not take it.
        """
        job = self.held.job
        artifact_id = new_id("art")
        key = f"{job.project_id}/{job.id}/a{job.attempt}/{artifact_id}"
        row = {"id": artifact_id, "job_id": job.id, "attempt": job.attempt, "name": name}
        # The row comes first: an object that no row names could never be found again.
        self.held.require(queries.announce({**row, "kind": kind, "storage_key": key, **columns}))
        reached("object:announced")
        with self.storage.write(key, file_name=name) as target:
            found = write(target)
        reached("object:stored")
        state = State.UPLOADING if kind is Kind.CHECKPOINT else State.READY
        described = queries.describe(
            artifact_id, state=state, size=target.size, sha256=target.sha256, **found
        )
        self.held.require(*with_it, described)
        reached("object:described")


def is_intact(path: Path, sha256: str | None) -> bool:
    """Whether a stored object has the bytes that its row says."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
