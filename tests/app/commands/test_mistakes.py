"""Ordinary mistakes end ``pst`` with a line that says what to do, and the documented status."""

import json
from pathlib import Path

import pytest

from tests.app.commands.conftest import Pst
from tests.app.conftest import SPEC
from tests.app.scripted import Reply, Scripted, scripted

__all__ = ["scripted"]

CREATE = ("jobs", "create", "--model", str(SPEC["model"]), "--dataset", str(SPEC["dataset"]))


def test_a_used_up_quota_is_an_error_and_no_outage(pst: Pst, scripted: Scripted) -> None:
    body = b'{"type": "/problems/quota_exceeded", "detail": "Too many.", "remedy": "Wait."}'
    scripted.will(Reply(429, body))

    result = pst.run(*CREATE, PST_URL=scripted.url)

    assert (result.exit_code, result.stderr) == (1, "pst: Too many.\n  remedy: Wait.\n")
    assert scripted.paths() == ["/jobs"]
