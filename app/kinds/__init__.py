"""Every kind of error there is: what it means and what to do. The one table that tells of them.

The ``type`` of a problem leads to its entry (``/problems/KIND``), docs/problems.md has them all,
and the ``code`` of a failed job's ``error`` is one of these names. Who raises one says in its own
words what happened.
"""

from app.kinds.jobs import JOBS, SPECS
from app.kinds.kind import Kind
from app.kinds.requests import REQUESTS

__all__ = ["KINDS", "Kind", "path"]

KINDS = REQUESTS | SPECS | JOBS


def path(name: str) -> str:
    """Where a kind is told of, which is also its name in the ``type`` of problems."""
    return f"/problems/{name}"
