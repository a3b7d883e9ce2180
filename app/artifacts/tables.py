"""Columns and constraints of what jobs store: checkpoints, snapshots and logs."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
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
from app.jobs.tables import of_a_job


class State(StrEnum):
    """A row is written before its bytes and goes after them, so that no object is ever unknown."""

    UPLOADING = "uploading"
    READY = "ready"
    DELETING = "deleting"


class Kind(StrEnum):
    CHECKPOINT = "checkpoint"
    """One archive a format: what the job is for."""
    SNAPSHOT = "snapshot"
    """What an attempt goes on from."""
    LOG = "log"
    """A part of what a trainer printed."""


class Artifact(Base):
    """One stored object, written by one attempt at a job and by nobody else, ever."""

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint("state IN ('uploading', 'ready', 'deleting')", name="state"),
        CheckConstraint("kind IN ('checkpoint', 'snapshot', 'log')", name="kind"),
        CheckConstraint("state <> 'ready' OR sha256 IS NOT NULL", name="hashed"),
        CheckConstraint("(kind = 'checkpoint') = (format IS NOT NULL)", name="format"),
        CheckConstraint("(kind = 'snapshot') = (step IS NOT NULL)", name="step"),
        UniqueConstraint("job_id", "attempt", "name"),
        of_a_job(),
        # How much a project stores; what sweeps look for.
        Index("ix_artifacts_stored_by_project", "project_id", postgresql_include=["size"]),
        Index("ix_artifacts_unready", "state", postgresql_where=text("state <> 'ready'")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(Text)
    job_id: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(Text)
    format: Mapped[str | None] = mapped_column(Text)
    step: Mapped[int | None] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(Text)
    storage_key: Mapped[str] = mapped_column(Text, unique=True)
    state: Mapped[str] = mapped_column(Text, server_default=State.UPLOADING)
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text)
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
