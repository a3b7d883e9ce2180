"""Moments of a run that have a name, so that a test can end the process exactly there."""

import sys


def reached(name: str) -> None:
    """Raise the audit event ``pst.reached`` with a moment's name; nobody listens in production.

    Args:
        name: Such as ``snapshot:renamed`` or ``train:step``.
    """
    sys.audit("pst.reached", name)
