"""A job's states, the moves between them and the event of each move: the one table of them.

How a move is written to the database stands in queries.py.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


@dataclass(frozen=True, slots=True)
class Move:
    source: Status | None
    target: Status
    event: str


SUBMIT = Move(None, Status.QUEUED, "queued")
CLAIM = Move(Status.QUEUED, Status.RUNNING, "started")
CANCEL_QUEUED = Move(Status.QUEUED, Status.CANCELLED, "cancelled")
SUCCEED = Move(Status.RUNNING, Status.SUCCEEDED, "succeeded")
FAIL = Move(Status.RUNNING, Status.FAILED, "failed")
CANCEL_RUNNING = Move(Status.RUNNING, Status.CANCELLED, "cancelled")
REQUEUE = Move(Status.RUNNING, Status.QUEUED, "requeued")

# Events that are no moves.
CANCEL_REQUESTED = "cancel_requested"
