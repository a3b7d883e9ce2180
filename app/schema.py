"""Whether the database has this release's schema: asked at each start, and before each claim.

How it is brought to it is db.py's and the migrations'.
"""

import logging
from functools import cache

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.db import DATABASE_AWAY, SchemaError, alembic_config, sync_engine

logger = logging.getLogger(__name__)


@cache
def expected() -> str:
    """The revision that this release was written for."""
    head = ScriptDirectory.from_config(alembic_config("postgresql://")).get_current_head()
    if head is None:
        raise RuntimeError("there are no migrations")
    return head


def check(connection: Connection) -> None:
    """Raises: SchemaError: It has another schema, or none."""
    there = connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    found = connection.scalar(text("SELECT version_num FROM alembic_version")) if there else None
    if found == expected():
        return
    # Revisions are numbered, and none is ever taken back.
    if found is None or found < expected():
        remedy = "run `pst db upgrade` of this release, then start this again"
    else:
        remedy = "a later release has upgraded it: start that release instead"
    raise SchemaError(f"the database has the schema {found}, this needs {expected()}: {remedy}")


def check_at_start(url: str) -> None:
    """Refuse to start on another schema; a database that is away is asked again later.

    Raises:
        SchemaError: It has another schema, or none.
    """
    try:
        with sync_engine(url).connect() as connection:
            check(connection)
    except DATABASE_AWAY as error:
        logger.warning("the schema is not known yet: %s", type(error).__name__)
