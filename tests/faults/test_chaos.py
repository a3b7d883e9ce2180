"""A short disturbed run; ``make chaos`` does longer ones."""

import subprocess
import sys

from tests.faults.toy import ROOT

SECONDS = 20
PATIENCE = 900  # seconds; guards against hanging, asserts no speed


def test_a_disturbed_installation_does_its_jobs() -> None:
    # A process of its own: it adopts what others orphan, and ends with all of them.
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.chaos", "--seed", "11", "--seconds", str(SECONDS)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stdout + done.stderr
