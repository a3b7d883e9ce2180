"""How Alembic connects and what it compares. Revisions are in ``versions/``."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from app.settings import Settings
from app.tables import Base

MIGRATION_LOCK = 7_205_111  # any number that no other advisory lock of this database uses


def run() -> None:
    url = context.config.attributes.get("url") or Settings().database_url or ""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        # Waiting for a busy table would queue everybody else behind the waiter.
        connection.execute(text("SET lock_timeout = '5s'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        context.configure(
            connection=connection, target_metadata=Base.metadata, compare_server_default=True
        )
        with context.begin_transaction():
            context.run_migrations()


run()
