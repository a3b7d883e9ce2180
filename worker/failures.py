"""What a job's owner is told of an error in one of its children; the traceback stays in the log."""

import errno

from pst_core.errors import PstError
from pst_core.events import FailureEvent


def describe(error: Exception, what: str) -> FailureEvent:
    """An error as an event.

    Args:
        error: What was raised.
        what: Failed: a noun with its article.
    """
    if isinstance(error, PstError):
        return FailureEvent.of(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FailureEvent(
            code="disk_full",
            message="The worker's disk is full.",
            remedy="Free space in its data folder.",
            retryable=True,
        )
    return FailureEvent(
        code="internal",
        message=f"{what} failed with {type(error).__name__}.",
        remedy="See the worker's log.",
    )
