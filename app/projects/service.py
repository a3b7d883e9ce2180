"""The rules of projects and keys. Checking a key that came with a request is app/security.py's.

Synchronous: the command line calls it so, and the API through ``AsyncSession.run_sync``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, exists, select
from sqlalchemy.orm import Session

from app.problems import Problem, not_found
from app.projects import queries
from app.projects.schemas import GRACE
from app.projects.scopes import Scope
from app.projects.tables import ApiKey
from app.security import make_key

DEFAULT_PROJECT = "default"
ADMIN = (Scope.ADMIN,)

Database = Connection | Session


@dataclass(frozen=True, slots=True)
class NewKey:
    """The one moment at which a key's secret is known."""

    key: str
    project_id: str
    row: Row[Any]

    @property
    def id(self) -> str:
        return str(self.row.id)

    @property
    def name(self) -> str:
        return str(self.row.name)


def create_key(
    database: Database,
    *,
    name: str,
    project: str = DEFAULT_PROJECT,
    scopes: Iterable[Scope] = ADMIN,
    lifetime: timedelta | None = None,
) -> NewKey:
    """Make a key, and its project where there is none of that name."""
    database.execute(queries.add_project(project))
    project_id = database.execute(queries.project_named(project)).scalar_one()
    return add_key(database, project_id, name=name, scopes=scopes, lifetime=lifetime)


def add_key(
    database: Database,
    project_id: str,
    *,
    name: str,
    scopes: Iterable[str],
    lifetime: timedelta | None = None,
) -> NewKey:
    key, key_id, secret_sha256 = make_key()
    row = {
        "id": key_id,
        "project_id": project_id,
        "name": name,
        "secret_sha256": secret_sha256,
        "scopes": sorted(set(scopes)),
    }
    made = database.execute(queries.add_key(row, lifetime)).one()
    return NewKey(key=key, project_id=project_id, row=made)


def list_keys(
    database: Database, project_id: str, *, after: str = "", limit: int
) -> Sequence[Row[Any]]:
    return database.execute(queries.page(project_id, after=after, limit=limit)).all()


def rotate_key(
    database: Database, project_id: str, key_id: str, *, grace: timedelta = GRACE
) -> NewKey:
    """Make a key's successor, for as long as the key itself was made for.

    Args:
        database: Its transaction makes the one and lets the other expire.
        project_id: Whose key it is.
        key_id: Of the key.
        grace: How long it stays valid beside its successor.

    Raises:
        Problem: 404, or 409 where the key is no longer valid or has a successor already.
    """
    old = database.execute(queries.one(project_id, key_id)).one_or_none()
    if old is None:
        raise not_found("key")
    if not old.active or old.rotated_at is not None:
        raise Problem(
            409,
            "key_not_active",
            "The key is revoked or expired, or was rotated before.",
            remedy="POST /keys makes another.",
        )
    database.execute(queries.end_by(project_id, key_id, grace))
    lifetime = None if old.expires_at is None else old.expires_at - old.created_at
    return add_key(database, project_id, name=old.name, scopes=old.scopes, lifetime=lifetime)


def revoke_key(database: Database, project_id: str, key_id: str) -> None:
    """End a key, everywhere within some seconds. Idempotent.

    Raises:
        Problem: 404.
    """
    if database.execute(queries.revoke(project_id, key_id)).one_or_none() is None:
        raise not_found("key")


def find_project(database: Database, name: str) -> str:
    """The id of a project.

    Raises:
        Problem: 404.
    """
    project_id: str | None = database.execute(queries.project_named(name)).scalar()
    if project_id is None:
        raise not_found("project")
    return project_id


def list_projects(database: Database) -> Sequence[Row[Any]]:
    return database.execute(queries.projects()).all()


def limit_project(database: Database, name: str, **quotas: int | None) -> None:
    """Give a project quotas of its own; null is the installation's.

    Raises:
        Problem: 404.
    """
    if database.execute(queries.limit(name, quotas)).one_or_none() is None:
        raise not_found("project")


def any_key(database: Database) -> bool:
    return bool(database.execute(select(exists(select(ApiKey.id)))).scalar())
