"""What the routes of events give."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class JobEventOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    seq: int
    """Counts from 1 within a job, without gaps."""
    attempt: int
    type: str
    data: dict[str, Any]
    created_at: datetime
