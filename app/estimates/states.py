"""How an estimate stands. Free of the database, so that clients can name it too."""

from enum import StrEnum


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"


DONE = (State.READY, State.FAILED)
