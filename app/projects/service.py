"""Making projects and keys. Checking a key that came with a request is app/security.py's."""

from dataclasses import dataclass

from sqlalchemy import Connection, exists, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from app.ids import new_id
from app.projects.tables import ApiKey, Project
from app.security import make_key

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class NewKey:
    key: str
    project_id: str
    name: str


def create_key(connection: Connection, *, name: str, project: str = DEFAULT_PROJECT) -> NewKey:
    """Make a key, and its project where there is none of that name."""
    # Somebody else may be making the same project: the name decides, not who was first.
    connection.execute(
        upsert(Project).values(id=new_id("prj"), name=project).on_conflict_do_nothing()
    )
    project_id = connection.execute(select(Project.id).where(Project.name == project)).scalar_one()
    key, key_id, secret_sha256 = make_key()
    connection.execute(
        insert(ApiKey).values(
            id=key_id, project_id=project_id, name=name, secret_sha256=secret_sha256
        )
    )
    return NewKey(key=key, project_id=project_id, name=name)


def any_key(connection: Connection) -> bool:
    return bool(connection.execute(select(exists(select(ApiKey.id)))).scalar())
