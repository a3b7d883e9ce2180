"""Columns and constraints of estimates: those that were asked for, and those of finished jobs."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.estimates.states import State
from app.jobs.tables import of_a_job

__all__ = ["Estimate", "Json", "State"]

Json = dict[str, Any]
Time = DateTime(timezone=True)


UNDONE = text(f"status IN ('{State.WAITING}', '{State.RUNNING}')")
OF_A_JOB = text("job_id IS NOT NULL")


class Estimate(Base):
    """What a spec will take; where it names a job, that one has run, and what it took is beside it.

    `attempt` is the fencing token, as a job's.
    """

    __tablename__ = "estimates"
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'running', 'ready', 'failed')", name="status"),
        CheckConstraint("(status = 'running') = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint("(status = 'ready') = (forecast IS NOT NULL)", name="forecast"),
        CheckConstraint("(job_id IS NULL) = (measured IS NULL)", name="measured"),
        of_a_job(),
        UniqueConstraint("job_id"),
        # In order: the claim, one of a project by its spec, what jobs of it have taken.
        Index("ix_estimates_undone", "id", postgresql_where=UNDONE),
        Index("ix_estimates_project_id_spec_sha256", "project_id", "spec_sha256"),
        Index("ix_estimates_of_jobs", "project_id", "job_id", postgresql_where=OF_A_JOB),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(Text, ForeignKey("projects.id"))
    job_id: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default=State.WAITING)
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    lease_until: Mapped[datetime | None] = mapped_column(Time)
    spec: Mapped[Json] = mapped_column(JSONB)
    spec_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    forecast: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    measured: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(Time, server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(Time)
