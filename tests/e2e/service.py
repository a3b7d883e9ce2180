"""A real ``pst serve`` in its own processes, and what is left of it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

READY = re.compile(r"http://127\.0\.0\.1:\d+")
KEY = re.compile(r"pst_[0-9a-f]{8}_[\w-]{43}")
PATIENCE = 900  # seconds; guards against hanging, asserts no speed


class Service:
    """Started when made; ``stop`` ends it as Ctrl-C would."""

    def __init__(self, data: Path, *, key: str | None = None, **variables: str) -> None:
        self.data, self.variables = data, variables
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "app", "serve", "--port", "0", "--data", str(data)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
            start_new_session=True,
        )
        self.output: list[str] = []
        self.url, self.key = self._await_ready(key)
        self._api = self._find_api()
        assert self._api is not None
        self.client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=60,
            trust_env=False,
            follow_redirects=True,  # a bucket sends archives itself
        )

    def _await_ready(self, key: str | None) -> tuple[str, str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if found := KEY.search(line):
                key = found[0]
            if url := READY.search(line):
                assert key is not None, "a first start prints a key"
                return url[0], key
        raise AssertionError(f"pst serve ended: {''.join(self.output)}")

    def processes(self) -> list[psutil.Process]:
        """Everything it has started, itself included."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def _find_api(self) -> psutil.Process | None:
        return next((each for each in self.processes() if "api" in command(each)), None)

    def trainers(self) -> list[psutil.Process]:
        return [process for process in self.processes() if "worker.child" in command(process)]

    def stop(self, sent: int = signal.SIGINT) -> list[psutil.Process]:
        """Stop it; gives back what should be gone and is not."""
        processes = self.processes()
        self.process.send_signal(sent)
        assert self.process.wait(PATIENCE) in (0, -sent)
        self._let_go()
        return psutil.wait_procs(processes, timeout=PATIENCE)[1]

    def kill(self) -> list[psutil.Process]:
        """Kill its first process alone; gives back what should be gone and is not."""
        processes = self.processes()
        self.process.kill()
        self.process.wait()
        self._let_go()
        return psutil.wait_procs(processes, timeout=60)[1]

    def _let_go(self) -> None:
        self.client.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def post(self, spec: dict[str, Any]) -> str:
        answer = self.client.post("/jobs", json=spec)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        try:
            answer = self.client.get(f"/jobs/{job_id}")
        except httpx.RemoteProtocolError:
            # A connection may end just as a request is sent; what reads is sent again (RFC 9112,
            # 9.3.1). That the API has ended would be a fault.
            assert self._find_api() == self._api, "the API ended by itself"
            answer = self.client.get(f"/jobs/{job_id}")
        job: dict[str, Any] = answer.raise_for_status().json()
        return job

    def await_job(self, job_id: str, until: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            job = self.job(job_id)
            if until(job):
                return job
            assert time.monotonic() < deadline, f"still {job['status']} {job['progress']}"
            time.sleep(0.1)

    def finish(self, job_id: str) -> dict[str, Any]:
        return self.await_job(job_id, lambda job: job["status"] not in ("queued", "running"))

    def events(self, job_id: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"/jobs/{job_id}/events", params={"limit": 1000})
        events: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return events


def command(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def maps_torch(process: psutil.Process) -> bool:
    """Whether torch's libraries are in a process's memory."""
    try:
        return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
