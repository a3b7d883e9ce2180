"""How ``python -m worker`` starts, or says why it doesn't."""

import json
import os
import subprocess
import sys

import pytest

from app.backends import environment
from app.settings import Settings


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("role", ["jobs", "maintenance"])
def test_a_worker_whose_storage_cannot_be_takes_no_job(settings: Settings, role: str) -> None:
    bad = {"PST_STORAGE_URL": "s3://bucket", "PST_STORAGE_OPTIONS": json.dumps({"bogus": "x"})}
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
    assert line.startswith("pst: PST_STORAGE_URL and PST_STORAGE_OPTIONS name no storage: ")
