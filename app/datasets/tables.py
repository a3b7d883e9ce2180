"""Columns and constraints of uploaded datasets."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

Json = dict[str, Any]
Time = DateTime(timezone=True)


class State(StrEnum):
    """A row is written before its bytes and goes after them, so that none are ever unknown."""

    UPLOADING = "uploading"
    VALIDATING = "validating"
    READY = "ready"
    INVALID = "invalid"
    DELETING = "deleting"
    """Its owner sees it no more; a sweep removes what there is of it."""


STATES = ", ".join(f"'{state}'" for state in State)
# Whole, and there for its owner.
STORED = (State.VALIDATING, State.READY, State.INVALID)
IS_STORED = text("state IN ('validating', 'ready', 'invalid')")
LISTED = text("state <> 'deleting'")
IN_WORK = text("state IN ('uploading', 'validating', 'deleting')")


class Dataset(Base):
    """One file as it was uploaded, which never changes; several may have one name.

    `attempt` counts its checks and is their fencing token, as that of a job.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint(f"state IN ({STATES})", name="state"),
        CheckConstraint("format IN ('csv', 'tsv', 'jsonl', 'parquet')", name="format"),
        CheckConstraint(
            "state IN ('uploading', 'deleting') OR (sha256 IS NOT NULL AND size IS NOT NULL)",
            name="hashed",
        ),
        CheckConstraint("state <> 'ready' OR profile IS NOT NULL", name="profiled"),
        CheckConstraint("state <> 'invalid' OR error IS NOT NULL", name="refused"),
        # Of uploads of the same bytes at once, one remains.
        Index(
            "uq_datasets_content",
            "project_id",
            "name",
            "sha256",
            "format",
            unique=True,
            postgresql_where=IS_STORED,
        ),
        # What jobs refer to.
        UniqueConstraint("project_id", "id"),
        # In order: a page, how much a project stores, what checks and sweeps look for.
        Index(
            "ix_datasets_name_id",
            "project_id",
            "name",
            text("id DESC"),
            postgresql_where=LISTED,
        ),
        Index("ix_datasets_charged", "project_id", postgresql_include=["charged_bytes"]),
        Index("ix_datasets_in_work", "state", "id", postgresql_where=IN_WORK),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default=State.UPLOADING)
    format: Mapped[str] = mapped_column(Text)
    # The bytes are gzip; known once they are there.
    gzip: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text)
    # What counts against the project's quota: while it is uploaded, what was reserved.
    charged_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    storage_key: Mapped[str] = mapped_column(Text, unique=True)
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    # Until when whoever uploads or checks it is believed to be at work.
    lease_until: Mapped[datetime | None] = mapped_column(Time)
    profile: Mapped[Json | None] = mapped_column(JSONB)
    error: Mapped[Json | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(Time, server_default=func.now())
    checked_at: Mapped[datetime | None] = mapped_column(Time)

    @property
    def file_name(self) -> str:
        """What its file is called where it is read: the readers go by the suffix."""
        return f"data.{self.format}" + (".gz" if self.gzip else "")
