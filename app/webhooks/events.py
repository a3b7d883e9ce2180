"""What an endpoint can be told of: each move of a job, under a name that stays.

Which move has which event stands in app/jobs/states.py.
"""

from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    QUEUED = "job.queued"
    STARTED = "job.started"
    REQUEUED = "job.requeued"
    PAUSED = "job.paused"
    RESUMED = "job.resumed"
    RETRIED = "job.retried"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"


PING: Final = "webhook.ping"

_TYPES = frozenset(EventType)


def event_type(event: str) -> EventType | None:
    """As which type endpoints are told of an event of a job; None where they are not."""
    name = f"job.{event}"
    return EventType(name) if name in _TYPES else None
