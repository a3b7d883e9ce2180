"""What the key routes take and give."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.projects.scopes import Scope
from pst_core.fields import Integer, Strict, Text

GRACE = timedelta(days=1)  # for which a rotated key stays valid
YEARS_10 = 10 * 365 * 24 * 3600
DAYS_30 = 30 * 24 * 3600


class KeyCreate(Strict):
    name: Text
    """What the key is for."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=len(Scope))]
    """`admin` implies the others, and is needed for keys."""
    expires_in_seconds: Annotated[int, Integer(ge=1, le=YEARS_10)] | None = None
    """Null: it ends when it is revoked."""


class KeyRotate(Strict):
    grace_seconds: Annotated[int, Integer(ge=0, le=DAYS_30)] = int(GRACE.total_seconds())
    """How long the key stays valid beside its successor."""


class KeyOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    """Part of the key, and no secret."""
    name: str
    scopes: list[Scope]
    active: bool
    """Neither revoked nor expired."""
    created_at: datetime
    expires_at: datetime | None
    rotated_at: datetime | None
    """When its successor was made."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To within some minutes."""


class KeyCreated(KeyOut):
    key: str
    """Shown this once."""
