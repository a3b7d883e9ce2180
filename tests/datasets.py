"""Datasets in the states that tests start from, made by the statements the service uses."""

import hashlib
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.datasets import queries
from app.datasets.tables import Dataset, State
from app.ids import new_id
from app.settings import Settings
from app.storage import open_storage

CSV = b"text,label\n" + b"".join(b"it is %d,%d\n" % (row, row % 2) for row in range(40))
PROFILE: dict[str, Any] = {
    "format": "csv",
    "gzip": False,
    "encoding": "utf-8",
    "dialect": None,
    "rows": 40,
    "columns": [
        {"name": name, "type": "text", "empty": 0, "whitespace": 0, "lengths": None, "values": None}
        for name in ("text", "label")
    ],
    "duplicates": {
        "rows": 0,
        "texts_with_several_labels": None,
        "texts_in_several_splits": None,
        "capped": False,
    },
    "split_column": None,
    "preview": [],
    "guesses": [],
}


def store(
    sessions: sessionmaker[Session],
    settings: Settings,
    project_id: str,
    content: bytes = CSV,
    **columns: object,
) -> Dataset:
    """An upload whose bytes are all there, not yet checked."""
    dataset_id = new_id("ds")
    key = f"{project_id}/datasets/{dataset_id}"
    row: dict[str, object] = {"id": dataset_id, "project_id": project_id, "storage_key": key}
    row |= {"name": "reviews", "format": "csv"} | columns
    with sessions.begin() as session:
        session.execute(queries.announce(row, 60))
    with open_storage(settings).write(key) as stored:
        stored.write(content)
    sha256 = hashlib.sha256(content).hexdigest()
    with sessions.begin() as session:
        statement = queries.store(
            dataset_id, size=len(content), sha256=sha256, gzip=content.startswith(b"\x1f\x8b")
        )
        stored_row: Dataset = session.scalars(statement).one()
        return stored_row


def claim(sessions: sessionmaker[Session], lease_seconds: float = 30) -> Dataset | None:
    with sessions.begin() as session:
        return session.scalars(queries.claim_check(lease_seconds)).one_or_none()


def ready(
    sessions: sessionmaker[Session],
    settings: Settings,
    project_id: str,
    content: bytes = CSV,
    **columns: object,
) -> Dataset:
    dataset = store(sessions, settings, project_id, content, **columns)
    checked = claim(sessions)
    assert checked is not None
    with sessions.begin() as session:
        session.execute(queries.end_check(checked, State.READY, profile=PROFILE))
    return row_of(sessions, dataset.id)


def row_of(sessions: sessionmaker[Session], dataset_id: str) -> Dataset:
    with sessions() as session:
        return session.scalars(select(Dataset).where(Dataset.id == dataset_id)).one()
