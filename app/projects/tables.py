"""Columns and constraints of projects and their API keys."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.projects.scopes import Scope

__all__ = ["ApiKey", "Project", "Scope"]

Time = DateTime(timezone=True)


SCOPES = ", ".join(f"'{scope}'" for scope in Scope)


class Project(Base):
    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[datetime] = mapped_column(Time, server_default=func.now())
    # Quotas of its own; null is the installation's.
    max_queued_jobs: Mapped[int | None] = mapped_column(Integer)
    max_running_jobs: Mapped[int | None] = mapped_column(Integer)
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)


class ApiKey(Base):
    """A key's id is public and found in the key; of its secret only the SHA-256 is kept.

    A rotated key has a successor, with an id of its own, and expires at the end of a grace time.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(f"scopes <@ ARRAY[{SCOPES}]::text[] AND scopes <> '{{}}'", name="scopes"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(Time, server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(Time)
    rotated_at: Mapped[datetime | None] = mapped_column(Time)
    revoked_at: Mapped[datetime | None] = mapped_column(Time)
    # To the minute or so: it is not written by the request that uses the key.
    last_used_at: Mapped[datetime | None] = mapped_column(Time)
