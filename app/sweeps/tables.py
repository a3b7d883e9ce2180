"""Columns and constraints of sweeps, and of which of its jobs a sweep stands for."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.jobs.tables import Json, of_a_job

Time = DateTime(timezone=True)


class Sweep(Base):
    """Has no status of its own: its jobs have theirs."""

    __tablename__ = "sweeps"
    __table_args__ = (
        # What belongs to a sweep refers to both; read backwards it is a page of sweeps.
        UniqueConstraint("project_id", "id"),
        CheckConstraint("max_parallel > 0", name="max_parallel"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    # As it was posted, with its defaults.
    request: Mapped[Json] = mapped_column(JSONB)
    metric: Mapped[str] = mapped_column(Text)
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", JSONB, server_default="{}")
    max_parallel: Mapped[int | None] = mapped_column(SmallInteger)
    created_at: Mapped[datetime] = mapped_column(Time, server_default=func.now())
    # Hidden from then on; its row goes after its jobs'.
    deleted_at: Mapped[datetime | None] = mapped_column(Time)


class SweepPick(Base):
    """The job that a sweep's name leads to; in a table of its own, since jobs refer to sweeps."""

    __tablename__ = "sweep_picks"
    __table_args__ = (
        of_a_job(),
        ForeignKeyConstraint(["project_id", "sweep_id"], ["sweeps.project_id", "sweeps.id"]),
        Index("ix_sweep_picks_job_id", "job_id"),
    )

    project_id: Mapped[str] = mapped_column(Text)
    sweep_id: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(Text)
    # What was asked for; null where a job was named.
    constraints: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    picked_at: Mapped[datetime] = mapped_column(Time, server_default=func.now())
