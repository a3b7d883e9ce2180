"""Columns and constraints of published checkpoints."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Integer,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class Artifact(Base):
    """One archive. The row is written before the bytes, so that no object is ever unknown."""

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint("state IN ('uploading', 'ready')", name="state"),
        CheckConstraint("state = 'uploading' OR sha256 IS NOT NULL", name="hashed"),
        UniqueConstraint("job_id", "attempt", "format"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int] = mapped_column(Integer)
    format: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    storage_key: Mapped[str] = mapped_column(Text, unique=True)
    state: Mapped[str] = mapped_column(Text, server_default="uploading")
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text)
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
