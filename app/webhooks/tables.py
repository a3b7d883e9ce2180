"""Columns and constraints of webhook endpoints and of what is, or was, delivered to them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

Json = dict[str, Any]
Time = DateTime(timezone=True)


class Disabled(StrEnum):
    """Why an endpoint gets nothing."""

    ASKED = "asked"
    """By its owner."""
    GONE = "gone"
    """It answered 410."""
    FAILING = "failing"
    """It has taken nothing for days."""


class State(StrEnum):
    """Of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


DISABLED = ", ".join(f"'{reason}'" for reason in Disabled)
STATES = ", ".join(f"'{state}'" for state in State)
PENDING = text(f"state = '{State.PENDING}'")
RECEIVING = text("disabled_reason IS NULL AND deleted_at IS NULL")


class WebhookEndpoint(Base):
    """Of its secret there is only the number: the secret is made of that and a key (signing.py).

    `claims` is the fencing token of who sends to it: one at a time. Nobody removes the row of a
    deleted one before every statement that may still refer to it has ended.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint(f"disabled_reason IN ({DISABLED})", name="disabled_reason"),
        # What belongs to an endpoint refers to both.
        UniqueConstraint("project_id", "id"),
        # What each move of a job looks for.
        Index("ix_webhook_endpoints_receiving", "project_id", postgresql_where=RECEIVING),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    url: Mapped[str] = mapped_column(Text)
    # Null is all.
    events: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    description: Mapped[str] = mapped_column(Text, server_default="")
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    secret_version: Mapped[int] = mapped_column(Integer, server_default="1")
    # Which of the installation's keys made it: no secret.
    key_fingerprint: Mapped[str] = mapped_column(Text)
    # The secret before is used beside it until then.
    previous_until: Mapped[datetime | None] = mapped_column(Time)
    # Attempts in a row that failed, and since when there was none that did not.
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    failing_since: Mapped[datetime | None] = mapped_column(Time)
    rests_until: Mapped[datetime | None] = mapped_column(Time)
    claims: Mapped[int] = mapped_column(Integer, server_default="0")
    claimed_at: Mapped[datetime | None] = mapped_column(Time)
    lease_until: Mapped[datetime | None] = mapped_column(Time)
    created_at: Mapped[datetime] = mapped_column(Time, server_default=func.now())
    deleted_at: Mapped[datetime | None] = mapped_column(Time)

    @property
    def enabled(self) -> bool:
        return self.disabled_reason is None


class WebhookDelivery(Base):
    """Written by the statement of what it tells of; its id is the message's at every attempt.

    `attempts` is the fencing token: whatever is written of an attempt names it. `tries` counts
    those since it was queued, first or by a replay.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        ForeignKeyConstraint(
            ["project_id", "endpoint_id"], ["webhook_endpoints.project_id", "webhook_endpoints.id"]
        ),
        CheckConstraint(f"state IN ({STATES})", name="state"),
        CheckConstraint(f"(state = '{State.PENDING}') = (finished_at IS NULL)", name="finished"),
        # In order: a page, whether there is one to send, the oldest of those, retention.
        Index("ix_webhook_deliveries_page", "project_id", "endpoint_id", text("id DESC")),
        Index("ix_webhook_deliveries_due", "endpoint_id", "next_at", postgresql_where=PENDING),
        Index("ix_webhook_deliveries_oldest", "endpoint_id", "id", postgresql_where=PENDING),
        Index(
            "ix_webhook_deliveries_finished_at",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[str] = mapped_column(Text)
    endpoint_id: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(Text)
    data: Mapped[Json] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(Text, server_default=State.PENDING)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    # What became of the last attempts: time, seconds, status or class of error. No body.
    log: Mapped[list[Json]] = mapped_column(JSONB, server_default="[]")
    created_at: Mapped[datetime] = mapped_column(Time, server_default=func.clock_timestamp())
    queued_at: Mapped[datetime] = mapped_column(Time, server_default=func.clock_timestamp())
    next_at: Mapped[datetime] = mapped_column(Time, server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None] = mapped_column(Time)

    @property
    def due_at(self) -> datetime | None:
        return self.next_at if self.finished_at is None else None
