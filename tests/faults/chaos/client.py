"""A client that posts jobs all the time and changes its mind about them, noting every answer.

A post that got no answer is sent again, under the same Idempotency-Key, until it gets one.
"""

import random
import threading
import time
from typing import Any

import httpx

from tests.faults.chaos.record import JsonLines, model_of

MOST_QUEUED = 5
MOST_JOBS = 150
PAUSE = (0.05, 0.3)  # seconds between two calls
TIMEOUT = 4
LAST_TRIES = 10
# How often each is done, and what it is done to.
OPERATIONS = {"post": 14, "cancel": 2, "pause": 2, "resume": 3, "retry": 2, "delete": 1}
FITTING = {
    "cancel": ("queued", "running"),
    "pause": ("queued", "running"),
    "resume": ("paused", "running"),
    "retry": ("failed", "cancelled"),
    "delete": ("queued", "running", "paused", "succeeded", "failed", "cancelled"),
}


class Client:
    """Works on a thread of its own from ``start`` until ``stop``.

    Args:
        url: The API's.
        key: Of a project.
        rng: Decides what is asked.
        steps: Of the toy models there are.
        history: Gets a line an answer.
        most_jobs: Are posted.
    """

    def __init__(
        self,
        url: str,
        key: str,
        rng: random.Random,
        steps: tuple[int, ...],
        history: JsonLines,
        *,
        most_jobs: int = MOST_JOBS,
    ) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT,
            trust_env=False,
        )
        self._rng = rng
        self._steps = steps
        self._history = history
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        self._posted = 0
        self._most_jobs = most_jobs
        self._unanswered: tuple[str, dict[str, Any]] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Once nothing is disturbed any more: what was posted gets its answer yet."""
        self._stopping.set()
        self._thread.join((LAST_TRIES + 2) * TIMEOUT)
        self._http.close()

    def is_ready(self) -> bool:
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def _run(self) -> None:
        while not self._stopping.wait(self._rng.uniform(*PAUSE)):
            jobs = self._ask("list", "GET", "/jobs?limit=30")
            known = [(job["id"], job["status"]) for job in (jobs or {}).get("data", ())]
            self._act(known)
        for _ in range(LAST_TRIES):
            if self._unanswered is not None:
                self._post()

    def _act(self, known: list[tuple[str, str]]) -> None:
        [op] = self._rng.choices(list(OPERATIONS), list(OPERATIONS.values()))
        if op == "post":
            if sum(status == "queued" for _, status in known) < MOST_QUEUED:
                self._post()
            return
        fitting = [job for job, status in known if status in FITTING[op]]
        if not fitting:
            return
        job = self._rng.choice(fitting)
        if op == "delete":
            self._ask(op, "DELETE", f"/jobs/{job}", job)
        else:
            self._ask(op, "POST", f"/jobs/{job}/{op}", job)

    def _post(self) -> None:
        if self._unanswered is None:
            if self._posted == self._most_jobs:
                return
            self._posted += 1
            self._unanswered = (f"post-{self._posted}", self._spec())
        key, spec = self._unanswered
        if self._ask("post", "POST", "/jobs", json=spec, headers={"Idempotency-Key": key}):
            self._unanswered = None

    def _spec(self) -> dict[str, Any]:
        folder = model_of(self._rng.choice(self._steps))
        return {
            "model": f"file:{folder}/model",
            "dataset": f"file:{folder}/data.csv",
            "sparsity": 0.9,
        }

    def _ask(
        self, op: str, method: str, path: str, job: str | None = None, **options: Any
    ) -> dict[str, Any] | None:
        """Ask once, and note what came of it; without an answer nobody knows."""
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError:
            self._history.add(op=op, job=job, at=time.monotonic())
            return None
        found: dict[str, Any] = answer.json() if answer.content else {}
        told = {"job": job or found.get("id"), "run": found.get("run")}
        self._history.add(op=op, at=time.monotonic(), answer=answer.status_code, **told)
        return found if answer.is_success else None
