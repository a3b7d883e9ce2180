"""How ``python -m worker`` starts, or says why it doesn't."""

import json
import os
import subprocess
import sys

import pytest

from app.backends import environment
from app.settings import Settings

ROLES = pytest.mark.parametrize("role", ["jobs", "maintenance", "beat"])


def refused(settings: Settings, role: str, **bad: str) -> str:
    """The one line that a process with such variables says before it ends."""
    run = subprocess.run(
        [sys.executable, "-P", "-m", "worker", role],
        env=os.environ | environment(settings) | bad,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    return line


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("role", ["jobs", "maintenance"])
def test_a_worker_whose_storage_cannot_be_takes_no_job(settings: Settings, role: str) -> None:
    options = json.dumps({"bogus": "x"})

    said = refused(settings, role, PST_STORAGE_URL="s3://bucket", PST_STORAGE_OPTIONS=options)

    assert said.startswith("pst: PST_STORAGE_URL and PST_STORAGE_OPTIONS name no storage: ")


@ROLES
def test_a_setting_that_cannot_be_is_named_and_its_value_is_not(
    settings: Settings, role: str
) -> None:
    said = refused(
        settings, role, PST_LEASE_SECONDS="planted", PST_DATABASE_URL="mysql://u:planted@h/db"
    )

    assert said.startswith("pst: PST_DATABASE_URL: must begin with postgresql://; PST_LEASE_SEC")
    assert said.endswith("Correct it, or unset it for its default.")
    assert "planted" not in said


@ROLES
def test_a_worker_by_itself_has_no_servers_but_those_that_are_named(
    settings: Settings, role: str
) -> None:
    said = refused(settings, role, PST_BROKER_URL="")

    assert said.startswith("pst: PST_DATABASE_URL and PST_BROKER_URL: one is not set.")
