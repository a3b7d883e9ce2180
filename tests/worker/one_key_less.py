"""``python -m tests.worker.one_key_less``: a chore's process, whose piece of work is an API key."""

from sqlalchemy import delete, select

from app.db import sync_engine
from app.projects.tables import ApiKey
from app.settings import Settings

if __name__ == "__main__":
    with sync_engine(Settings().database_url or "").begin() as connection:
        one = select(ApiKey.id).limit(1).scalar_subquery()
        connection.execute(delete(ApiKey).where(ApiKey.id == one))
