"""The answers that were given, by the key that the request came with."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, LargeBinary, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class IdempotencyKey(Base):
    """Inserted before the request is acted on: a second one waits for the first's transaction."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    # Its hash: what callers send is repeated nowhere.
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """As text, so that it comes again byte for byte."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
