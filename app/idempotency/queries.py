"""Statements on idempotency keys, run by the API and the sweeper."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Executable, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import InstrumentedAttribute

from app.idempotency.tables import IdempotencyKey

KEPT_HOURS = 24


def take(project_id: str, key: str, request_sha256: bytes) -> Executable:
    """Insert a key, hashed as in all of these; no row comes back where it is there already."""
    values = {"project_id": project_id, "key": key, "request_sha256": request_sha256}
    insertion = upsert(IdempotencyKey).values(**values).on_conflict_do_nothing()
    return insertion.returning(IdempotencyKey.key)


def answer(project_id: str, key: str, body: Mapping[str, Any]) -> Executable:
    return (
        update(IdempotencyKey)
        .where(IdempotencyKey.project_id == project_id, IdempotencyKey.key == key)
        .values(answer=dict(body))
    )


def one(project_id: str, key: str) -> Select[IdempotencyKey]:
    return select(IdempotencyKey).where(
        IdempotencyKey.project_id == project_id, IdempotencyKey.key == key
    )


def expire() -> Executable:
    created: InstrumentedAttribute[Any] = IdempotencyKey.created_at
    age = func.clock_timestamp() - created
    return delete(IdempotencyKey).where(age > func.make_interval(0, 0, 0, 0, KEPT_HOURS))
