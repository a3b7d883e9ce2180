"""What the webhook routes take and give."""

from datetime import datetime
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from app.webhooks.events import EventType
from app.webhooks.tables import Disabled, State
from app.webhooks.targets import URL_PATTERN
from pst_core.fields import Flag, Integer, Strict, Text

DAYS_7 = 7 * 24 * 3600
DAY = 24 * 3600

Url = Annotated[Text, Field(max_length=1024, pattern=URL_PATTERN)]
Events = Annotated[tuple[EventType, ...], Field(min_length=1, max_length=len(EventType))]


class EndpointCreate(Strict):
    url: Url
    """`https`, in ASCII, without user and fragment, and not an address of a private network."""
    events: Events | None = None
    """What it is told of. Null: all."""
    description: Text | None = None


class EndpointUpdate(Strict):
    """What is left out stays as it is."""

    url: Url | None = None
    events: Events | None = None
    """Null: all."""
    description: Text | None = None
    enabled: Flag | None = None
    """False: nothing more is sent, what waits is given up, and what happens meanwhile is never
    sent. True ends that, whatever had switched it off."""


class SecretRotate(Strict):
    overlap_seconds: Annotated[int, Integer(ge=0, le=DAYS_7)] = DAY
    """How long the secret before signs as well."""


class EndpointOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    url: str
    events: list[EventType] | None
    description: str
    enabled: bool
    disabled_reason: Disabled | None
    """`asked`: by its owner; `gone`: it answered 410; `failing`: it took nothing for days."""
    failing_since: datetime | None
    """When the first of the attempts was that have failed in a row; null after one that has not."""
    failures: int
    """How many of them there are."""
    previous_until: datetime | None
    """Until when the secret before the last signs as well."""
    created_at: datetime


class EndpointCreated(EndpointOut):
    secret: str
    """Shown this once."""


class Attempt(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    number: int
    """Counts on over replays."""
    at: datetime
    seconds: float
    status: int | None
    """What it was answered with; null where there was no answer."""
    error: str | None
    """Null where it was taken: `refused`, `redirected` or `gone` by its status; `timeout`,
    `unresolvable`, `forbidden_address`, `not_connected`, `tls`, `protocol`; `forbidden_url`,
    `key_changed`."""


class DeliveryOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    """`webhook-id` of every attempt."""
    type: str
    data: dict[str, str | int]
    state: State
    created_at: datetime
    next_at: datetime | None = Field(validation_alias=AliasChoices("due_at", "next_at"))
    """When it is attempted next, at the earliest; null where it is not."""
    finished_at: datetime | None
    """When it was taken, or given up."""
    attempts: list[Attempt] = Field(validation_alias=AliasChoices("log", "attempts"))
    """The last ones, in order."""
