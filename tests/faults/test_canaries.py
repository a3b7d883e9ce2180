"""Secrets are planted wherever one can enter, a job is run, and none is found where it must not be.

One whole installation, whose processes log to files; its trainer is the toy.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import Engine, make_url, select

from app.projects.service import NewKey
from app.settings import Settings
from app.tables import Base
from tests.faults.chaos.processes import Managed
from tests.faults.toy import SPEC, environment, make_toy
from tests.worker.fetching.hub import FakeHub, Handler, running

HUB_TOKEN = "hf_CanaryOfTheHubToken0123456789"
WEBHOOK_KEY = "canary-of-the-webhook-key-0123456789abcdef"
STORAGE_SECRET = "canary/of/the/storage/secret+0123456789"
URL_PASSWORD = "canary-of-a-reference"
PATIENCE = 120  # seconds; guards against hanging, asserts no speed
PARTS = {
    "api": ("app", "api"),
    "worker": ("worker", "jobs", "--devices", "cpu"),
    "maintenance": ("worker", "maintenance"),
    "beat": ("worker", "beat"),
}


def echo(status: int, code: str) -> Callable[[Handler], None]:
    """Says back all that came, as a hub in trouble might."""

    def answer(handler: Handler) -> None:
        sent = f"no: {dict(handler.headers)}"
        about = {"X-Error-Code": code, "X-Error-Message": sent, "X-Request-Id": sent}
        handler.send(status, sent.encode(), about)

    return answer


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    # What is odd first, then what ends a job.
    answers = [echo(400, ""), *[echo(403, "GatedRepo")] * 20]
    with running(FakeHub(instead={"main": answers})) as hub:
        yield hub


@pytest.fixture
def settings(settings: Settings, file_root: Path, hub: FakeHub) -> Settings:
    make_toy(file_root, steps=200, step_seconds=0.01)
    return settings.model_copy(
        update={"hub_endpoint": hub.url, "poll_seconds": 0.2, "lease_seconds": 120}
    )


@pytest.fixture
def secrets(settings: Settings, key: NewKey) -> dict[str, str]:
    return {
        "the API key": key.key.rpartition("_")[2],
        "the hub's token": HUB_TOKEN,
        "the webhooks' key": WEBHOOK_KEY,
        "the storage's secret": STORAGE_SECRET,
        "the database's password": str(make_url(settings.database_url or "").password),
        "the broker's password": str(make_url(settings.broker_url or "").password),
        "a reference's password": URL_PASSWORD,
    }


@contextmanager
def installation(settings: Settings, logs: Path) -> Iterator[tuple[str, list[Managed]]]:
    """All processes of one, each with a log; where its API listens."""
    logs.mkdir()
    variables = environment(settings) | {
        "PST_HUB_TOKEN": HUB_TOKEN,
        "PST_WEBHOOK_KEY": WEBHOOK_KEY,
        "AWS_SECRET_ACCESS_KEY": STORAGE_SECRET,
        "PST_LOG_LEVEL": "debug",
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        processes = [
            Managed(
                name,
                [*argv, *(["--fd", str(fd)] if name == "api" else [])],
                variables,
                logs / f"{name}.log",
                [fd] if name == "api" else [],
            )
            for name, argv in PARTS.items()
        ]
        for process in processes:
            process.tend()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", processes
        finally:
            stopped = [process.stop(PATIENCE) for process in processes]
        assert all(stopped)


def until(ready: Callable[[], Any]) -> Any:  # noqa: ANN401 -- whatever it waits for
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def plant(client: httpx.Client, key: str) -> list[str]:
    """Send secrets wherever a request takes text; the jobs that came of it."""
    client.get("/jobs", params={"api_key": key, "cursor": key})
    client.get(f"/jobs/{key}", headers={"X-Request-ID": key, "User-Agent": key})
    client.post("/jobs", json=SPEC, headers={"Authorization": f"Bearer {key}x"})
    client.post("/jobs", json={**SPEC, key: key, "sparsity": key})
    for model in (f"hub:user:{URL_PASSWORD}@org/name", f"https://user:{URL_PASSWORD}@host/name"):
        client.post("/jobs", json={**SPEC, "model": model})
    upload = {"filename": f"{key}.csv", "name": f"{key}.csv"}
    client.post("/datasets", params=upload, content=b"text,label\ngood,1\nbad,0\n")
    jobs = [{**SPEC, "metadata": {"note": key}}, {**SPEC, "model": "hub:org/name"}]
    return [client.post("/jobs", json=job).raise_for_status().json()["id"] for job in jobs]


def ended(client: httpx.Client, job_id: str) -> str | None:
    status: str = client.get(f"/jobs/{job_id}").json()["status"]
    return status if status in ("succeeded", "failed") else None


def trainers_environment(processes: list[Managed]) -> str:
    for process in processes:
        for trainer in process.find("toy_trainer"):
            with suppress(psutil.Error, OSError):
                return Path(f"/proc/{trainer.pid}/environ").read_text(encoding="utf-8")
    return ""


def dump(engine: Engine) -> Iterator[tuple[str, str]]:
    """All tables as text, but for what a caller may say there: metadata."""
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(select(table)).mappings():
                kept = {name: value for name, value in row.items() if name != "metadata"}
                yield f"the table {table.name}", str(kept)


def shown(client: httpx.Client, job_id: str) -> Iterator[tuple[str, str]]:
    """What a job's owner sees of it."""
    for path in ("events", "logs"):
        yield path, client.get(f"/jobs/{job_id}/{path}").text
    job = client.get(f"/jobs/{job_id}").json()
    yield "job", str({name: value for name, value in job.items() if name != "metadata"})


def written(*folders: Path) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_text(encoding="utf-8", errors="replace")


def test_secrets_are_found_nowhere_after_jobs_have_run(
    settings: Settings,
    engine: Engine,
    key: NewKey,
    hub: FakeHub,
    secrets: dict[str, str],
    tmp_path: Path,
) -> None:
    logs = tmp_path / "logs"
    places: list[tuple[str, str]] = []
    with (
        installation(settings, logs) as (url, processes),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        client.headers["Authorization"] = f"Bearer {key.key}"
        jobs = plant(client, key.key)
        places.append(("a trainer's environment", until(lambda: trainers_environment(processes))))
        ends = [until(partial(ended, client, job_id)) for job_id in jobs]
        places += [place for job_id in jobs for place in shown(client, job_id)]
    places += [*dump(engine), *written(logs, settings.storage_dir)]

    # They were where they were to be, and the log tells of what came.
    assert ends == ["succeeded", "failed"]
    assert {headers.get("authorization") for _, headers in hub.requests} == {f"Bearer {HUB_TOKEN}"}
    assert '"route":"/jobs/{job_id}"' in (logs / "api.log").read_text(encoding="utf-8")
    assert [
        f"{secret} in {place}"
        for place, content in places
        for secret, value in secrets.items()
        if value in content
    ] == []
