"""What each record of a process or request is marked with, without being handed around."""

from contextvars import ContextVar

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)

# Of the whole process, all its threads included: a supervisor has one attempt at one job.
_work: dict[str, object] = {}


def name_work(**fields: object) -> None:
    """Say what this process works on from here on, such as ``job_id`` and ``attempt``."""
    _work.clear()
    _work.update(fields)


def current() -> dict[str, object]:
    """What a record is to be marked with."""
    request_id = REQUEST_ID.get()
    return dict(_work) if request_id is None else {"request_id": request_id, **_work}
