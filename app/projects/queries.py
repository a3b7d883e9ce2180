"""Statements on projects and API keys: built here, run by the API and the command line."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Executable, Select, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.ids import new_id
from app.projects.tables import ApiKey, Project

LAST_USED = timedelta(minutes=1)

# Of the database's clock alone: several processes judge the same key.
ACTIVE: ColumnElement[bool] = ApiKey.revoked_at.is_(None) & or_(
    ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp()
)
SHOWN = (
    ApiKey.id,
    ApiKey.name,
    ApiKey.scopes,
    ACTIVE.label("active"),
    ApiKey.created_at,
    ApiKey.expires_at,
    ApiKey.rotated_at,
    ApiKey.revoked_at,
    ApiKey.last_used_at,
)


def add_project(name: str) -> Executable:
    """Somebody else may be making the same project: the name decides, not who was first."""
    return upsert(Project).values(id=new_id("prj"), name=name).on_conflict_do_nothing()


def project_named(name: str) -> Select[str]:
    return select(Project.id).where(Project.name == name)


def projects() -> Executable:
    """With their own quotas."""
    quotas = (Project.max_queued_jobs, Project.max_running_jobs, Project.max_stored_bytes)
    return select(Project.name, *quotas).order_by(Project.name)


def limit(name: str, quotas: Mapping[str, int | None]) -> Executable:
    return update(Project).where(Project.name == name).values(**quotas).returning(Project.id)


def add_key(key: Mapping[str, Any], lifetime: timedelta | None) -> Executable:
    expires_at = None if lifetime is None else func.clock_timestamp() + lifetime
    return insert(ApiKey).values(**key, expires_at=expires_at).returning(*SHOWN)


def presented(key_id: str) -> Executable:
    """What a request's key is compared with."""
    columns = (ApiKey.project_id, ApiKey.secret_sha256, ApiKey.scopes, ACTIVE.label("active"))
    return select(*columns).where(ApiKey.id == key_id)


def active_keys(key_ids: Collection[str]) -> Select[str]:
    return select(ApiKey.id).where(ApiKey.id.in_(key_ids), ACTIVE)


def page(project_id: str, *, after: str, limit: int) -> Executable:
    mine = (ApiKey.project_id == project_id) & (ApiKey.id > after)
    return select(*SHOWN).where(mine).order_by(ApiKey.id).limit(limit)


def one(project_id: str, key_id: str) -> Executable:
    return select(*SHOWN).where(_owned(project_id, key_id)).with_for_update()


def end_by(project_id: str, key_id: str, grace: timedelta) -> Executable:
    """Let a key that has a successor expire."""
    now = func.statement_timestamp()
    expires_at = func.least(ApiKey.expires_at, now + grace)
    return (
        update(ApiKey)
        .where(_owned(project_id, key_id))
        .values(rotated_at=now, expires_at=expires_at)
    )


def revoke(project_id: str, key_id: str) -> Executable:
    """End a key at once; revoking it again changes nothing."""
    revoked_at = func.coalesce(ApiKey.revoked_at, func.clock_timestamp())
    changed = update(ApiKey).where(_owned(project_id, key_id)).values(revoked_at=revoked_at)
    return changed.returning(ApiKey.id)


def write_last_used(key_ids: Collection[str]) -> Executable:
    """Several processes write at once: who finds a row locked leaves it to the other."""
    before = func.clock_timestamp() - LAST_USED
    due = (
        select(ApiKey.id)
        .where(
            ApiKey.id.in_(key_ids), or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < before)
        )
        .with_for_update(skip_locked=True)
    )
    return update(ApiKey).where(ApiKey.id.in_(due)).values(last_used_at=func.clock_timestamp())


def _owned(project_id: str, key_id: str) -> ColumnElement[bool]:
    return (ApiKey.project_id == project_id) & (ApiKey.id == key_id)
