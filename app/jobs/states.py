"""A job's states, the moves between them and the event of each move: the one table of them.

How a move is written to the database stands in moves.py.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


@dataclass(frozen=True, slots=True)
class Move:
    sources: frozenset[Status]
    target: Status
    event: str


def _move(*sources: Status, to: Status, event: str) -> Move:
    return Move(frozenset(sources), to, event)


SUBMIT = _move(to=Status.QUEUED, event="queued")
CLAIM = _move(Status.QUEUED, to=Status.RUNNING, event="started")
# Out of running: by the worker that holds the lease, or by a sweep once it has ended.
SUCCEED = _move(Status.RUNNING, to=Status.SUCCEEDED, event="succeeded")
FAIL = _move(Status.RUNNING, to=Status.FAILED, event="failed")
REQUEUE = _move(Status.RUNNING, to=Status.QUEUED, event="requeued")
PAUSE_RUNNING = _move(Status.RUNNING, to=Status.PAUSED, event="paused")
CANCEL_RUNNING = _move(Status.RUNNING, to=Status.CANCELLED, event="cancelled")
# By the job's owner, at once, where nobody runs it.
PAUSE_QUEUED = _move(Status.QUEUED, to=Status.PAUSED, event="paused")
RESUME = _move(Status.PAUSED, to=Status.QUEUED, event="resumed")
CANCEL_WAITING = _move(Status.QUEUED, Status.PAUSED, to=Status.CANCELLED, event="cancelled")
# A new run; nothing else leaves a terminal state, and nothing at all leaves `succeeded`.
RETRY = _move(Status.FAILED, Status.CANCELLED, to=Status.QUEUED, event="retried")
# By a sweep.
TIME_OUT_QUEUED = _move(Status.QUEUED, to=Status.FAILED, event="failed")
BASELINE_ENDED = _move(Status.QUEUED, to=Status.FAILED, event="failed")

MOVES = (
    SUBMIT,
    CLAIM,
    SUCCEED,
    FAIL,
    REQUEUE,
    PAUSE_RUNNING,
    CANCEL_RUNNING,
    PAUSE_QUEUED,
    RESUME,
    CANCEL_WAITING,
    RETRY,
    TIME_OUT_QUEUED,
    BASELINE_ENDED,
)

# Events that are no moves.
CANCEL_REQUESTED = "cancel_requested"
PAUSE_REQUESTED = "pause_requested"
PAUSE_WITHDRAWN = "pause_withdrawn"
DELETED = "deleted"
