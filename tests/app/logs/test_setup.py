"""What a process prints to stderr, from its first record to its end."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

START = "from app import logs; from app.settings import Settings; logs.configure(Settings());"
SECRET = "canary-of-a-token"


def run(code: str, **variables: str) -> str:
    process = subprocess.run(
        [sys.executable, "-P", "-c", START + code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stderr


def records(code: str, **variables: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(code, **variables).splitlines()]


def test_what_ends_the_process_is_a_record_without_secrets() -> None:
    (record,) = records(f"raise ValueError('{SECRET}')", PST_HUB_TOKEN=SECRET)

    assert (record["level"], record["message"]) == ("critical", "the process ends")
    assert "ValueError: ***" in record["exception"]


def test_what_ends_a_thread_is_a_record() -> None:
    code = "import threading; t = threading.Thread(target=lambda: 1 / 0, name='w'); t.start()"
    (record,) = records(code)

    assert "ZeroDivisionError" in record["exception"]


def test_a_warning_is_a_record() -> None:
    (record,) = records("import warnings; warnings.warn('old\\nways')")

    assert (record["level"], record["logger"]) == ("warning", "py.warnings")


def test_our_own_packages_tell_what_the_level_says_and_others_warnings_alone() -> None:
    code = "import logging; [logging.getLogger(n).info('x') for n in ('app.x', 'celery', 'httpx')]"

    assert [record["logger"] for record in records(code)] == ["app.x"]
    assert records(code, PST_LOG_LEVEL="warning") == []


def test_a_record_is_marked_with_the_work_of_its_process_on_any_thread() -> None:
    code = (
        "import logging, threading; logs.name_work(job_id='job_1', attempt=2);"
        "threading.Thread(target=logging.getLogger('app').warning, args=('x',)).start()"
    )
    (record,) = records(code)

    assert (record["job_id"], record["attempt"]) == ("job_1", 2)


def test_text_is_for_terminals() -> None:
    line = run("import logging; logging.getLogger('app').warning('a\\nb')", PST_LOG_FORMAT="text")

    assert line.endswith("WARNING app: a\\nb\n")


@pytest.mark.parametrize("name", ["PST_LOG_FORMAT", "PST_WEBHOOK_KEY"])
def test_a_setting_that_is_refused_is_not_repeated(name: str) -> None:
    assert SECRET not in run("", **{name: SECRET})
