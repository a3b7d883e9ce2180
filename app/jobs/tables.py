"""Columns and constraints of jobs, their events and their metrics."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.jobs.states import TERMINAL, Status

Json = dict[str, Any]

STATUSES = ", ".join(f"'{status}'" for status in Status)
ENDED = ", ".join(f"'{status}'" for status in Status if status in TERMINAL)
QUEUED = text(f"status = '{Status.QUEUED}'")
WAITING = text(f"status IN ('{Status.QUEUED}', '{Status.PAUSED}')")
RUNNING = text(f"status = '{Status.RUNNING}'")
LISTED = text("deleted_at IS NULL")
SWEPT = text("sweep_id IS NOT NULL")
WAITS = text("waits_for IS NOT NULL")
UPLOADED = text("dataset_id IS NOT NULL")
# Spelt out, with nothing bound: only so does a query find their indexes.
MODEL = text("(spec ->> 'model')")
METHOD = text("(spec ->> 'method')")


def spelt(status: Status) -> ColumnElement[str]:
    """A status written into a statement, not bound to it.

    A plan for any value of a parameter cannot use an index of the rows with one status, so that
    PostgreSQL would plan even a prepared statement anew each time.
    """
    return literal_column(f"'{status}'", Text)


class Job(Base):
    """`attempt` is the fencing token: whatever a worker writes names it.

    `run` counts what ends in a terminal state, `attempt` what was claimed; only a retry starts
    another run, and neither ever goes back.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({STATUSES})", name="status"),
        # Nobody's and running, or somebody's and not: no bug may leave a job so.
        CheckConstraint(f"(status = '{Status.RUNNING}') = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint(f"(status = '{Status.RUNNING}') = (claimed_at IS NOT NULL)", name="claim"),
        CheckConstraint(f"(status IN ({ENDED})) = (finished_at IS NOT NULL)", name="finished"),
        CheckConstraint("device IN ('any', 'cpu', 'gpu')", name="device"),
        ForeignKeyConstraint(["project_id", "sweep_id"], ["sweeps.project_id", "sweeps.id"]),
        ForeignKeyConstraint(["project_id", "waits_for"], ["jobs.project_id", "jobs.id"]),
        # What belongs to a job refers to both; read backwards it is a page of jobs.
        UniqueConstraint("project_id", "id"),
        # In order: the claim, how many of a project wait and how many run, the sweeps.
        Index("ix_jobs_queued", text("priority DESC"), "id", postgresql_where=QUEUED),
        Index("ix_jobs_waiting_by_project", "project_id", postgresql_where=WAITING),
        Index("ix_jobs_running_by_project", "project_id", postgresql_where=RUNNING),
        Index("ix_jobs_lease_until", "lease_until", postgresql_where=RUNNING),
        Index("ix_jobs_deleted_at", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        # A page of jobs, by each of its filters; and those that were kept long enough.
        Index(
            "ix_jobs_status_id", "project_id", "status", text("id DESC"), postgresql_where=LISTED
        ),
        Index("ix_jobs_model_id", "project_id", MODEL, text("id DESC"), postgresql_where=LISTED),
        Index("ix_jobs_method_id", "project_id", METHOD, text("id DESC"), postgresql_where=LISTED),
        Index(
            "ix_jobs_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            postgresql_where=LISTED,
        ),
        Index("ix_jobs_sweep_id", "sweep_id", "id", postgresql_where=SWEPT),
        Index("ix_jobs_waits_for", "waits_for", postgresql_where=WAITS),
        Index("ix_jobs_finished_at", "finished_at", postgresql_where=LISTED),
        # Gone with its dataset; a job that still needs that keeps it from being deleted.
        ForeignKeyConstraint(
            ["project_id", "dataset_id"],
            ["datasets.project_id", "datasets.id"],
            ondelete="SET NULL (dataset_id)",
        ),
        Index("ix_jobs_dataset_id", "project_id", "dataset_id", postgresql_where=UPLOADED),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    # It is one of those that were asked for together.
    sweep_id: Mapped[str | None] = mapped_column(Text)
    # The job whose dense model is its yardstick: nobody takes it before that has succeeded.
    waits_for: Mapped[str | None] = mapped_column(Text)
    spec: Mapped[Json] = mapped_column(JSONB)
    hyperparameters: Mapped[Json] = mapped_column(JSONB)
    # SQLAlchemy has taken the name.
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", JSONB, server_default="{}")
    status: Mapped[str] = mapped_column(Text, server_default=Status.QUEUED)
    phase: Mapped[str | None] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    device: Mapped[str] = mapped_column(Text, server_default="any")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    run: Mapped[int] = mapped_column(Integer, server_default="1")
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    # Attempts that ended without the job having got further, since it last did: those that were
    # lost with their worker, and those that failed by themselves.
    lost_attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    failed_attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    event_seq: Mapped[int] = mapped_column(Integer, server_default="0")
    cancel_requested: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    pause_requested: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    worker: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    claimed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Of this run's earlier attempts.
    ran_seconds: Mapped[float] = mapped_column(Float, server_default="0")
    # Of all attempts that have ended, of all runs.
    device_seconds: Mapped[float] = mapped_column(Float, server_default="0")
    # When it could first be claimed since it was last queued: a job may be made to wait.
    not_before: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    # What the revisions of its model and dataset were when they were first fetched from a hub.
    commits: Mapped[dict[str, str]] = mapped_column(JSONB, server_default="{}")
    # The upload that its dataset is.
    dataset_id: Mapped[str | None] = mapped_column(Text)
    # Which columns and how many rows were read, once they were.
    data: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    progress: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    progress_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    error: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    result: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Hidden from then on; a sweep removes what there is of it.
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    @property
    def placement(self) -> Json:
        return {"device": self.device, "memory_bytes": self.memory_bytes}

    @property
    def eta(self) -> datetime | None:
        """When its training will be over, at the speed that this attempt was last seen to have."""
        told, since = self.progress_at, self.claimed_at
        # What an earlier attempt told is no measure of this one.
        if self.phase != "training" or not (self.progress and told and since) or told < since:
            return None
        return told + timedelta(seconds=self.progress["eta_seconds"])

    @property
    def version(self) -> tuple[int, datetime | None]:
        """Another one after whatever an owner or a worker has changed."""
        return self.event_seq, self.progress_at


def of_a_job() -> ForeignKeyConstraint:
    """The reference of each row that belongs to a job: to one of the row's own project."""
    return ForeignKeyConstraint(["project_id", "job_id"], ["jobs.project_id", "jobs.id"])


class JobEvent(Base):
    """`seq` counts from 1 within a job, without gaps: it is taken under the job's row lock."""

    __tablename__ = "job_events"
    __table_args__ = (of_a_job(),)

    project_id: Mapped[str] = mapped_column(Text)
    job_id: Mapped[str] = mapped_column(Text, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    type: Mapped[str] = mapped_column(Text)
    data: Mapped[Json] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class JobMetric(Base):
    """The series of one training step; a later attempt drops those behind where it begins."""

    __tablename__ = "job_metrics"
    __table_args__ = (of_a_job(),)

    project_id: Mapped[str] = mapped_column(Text)
    job_id: Mapped[str] = mapped_column(Text, primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    stage: Mapped[str] = mapped_column(Text)
    loss: Mapped[float] = mapped_column(Float)
    sparsity: Mapped[float] = mapped_column(Float)
    learning_rate: Mapped[float] = mapped_column(Float)
