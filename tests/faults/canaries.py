"""An installation whose secrets are looked for, and every place that one might have got to."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import Engine, select

from app.settings import Settings
from app.storage import open_storage
from app.tables import Base
from tests.faults.chaos.processes import Managed, command
from tests.faults.toy import environment

PATIENCE = 120  # seconds; guards against hanging, asserts no speed
PARTS = {
    "api": ("app", "api"),
    "worker": ("worker", "jobs", "--devices", "cpu"),
    "maintenance": ("worker", "maintenance"),
    "beat": ("worker", "beat"),
}
# What a place is called, and all that is written there.
Place = tuple[str, str]


@contextmanager
def installation(
    settings: Settings, logs: Path, secrets: Mapping[str, str]
) -> Iterator[tuple[str, list[Managed]]]:
    """All processes of one, each with a log; where its API listens.

    Args:
        settings: What is secret in them is taken from the variables alone.
        logs: A folder, to be made.
        secrets: Variables.
    """
    logs.mkdir()
    variables = {**environment(settings), "PST_LOG_LEVEL": "debug", **secrets}
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


def of_a_trainer(processes: list[Managed]) -> list[Place]:
    """What a trainer that runs was started with; nothing where none does."""
    for process in processes:
        for trainer in process.find("toy_trainer"):
            with suppress(psutil.Error, OSError):
                environ = Path(f"/proc/{trainer.pid}/environ").read_text(encoding="utf-8")
                told = " ".join(command(trainer))
                return [("a trainer's environment", environ), ("a trainer's command", told)]
    return []


def tables(engine: Engine) -> Iterator[Place]:
    """All of them as text, but for what a caller may say there: metadata."""
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(select(table)).mappings():
                kept = {name: value for name, value in row.items() if name != "metadata"}
                yield f"the table {table.name}", str(kept)


def shown(client: httpx.Client, job_id: str) -> Iterator[Place]:
    """What a job's owner sees of it."""
    for path in ("events", "logs"):
        yield path, client.get(f"/jobs/{job_id}/{path}").text
    job = client.get(f"/jobs/{job_id}").json()
    yield "job", json.dumps({name: value for name, value in job.items() if name != "metadata"})


def files(*folders: Path) -> Iterator[Place]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_text(encoding="utf-8", errors="replace")


def objects(settings: Settings) -> Iterator[Place]:
    """Of the storage, with their names."""
    storage = open_storage(settings)
    for key in storage.keys_older_than(-60):
        content = b"".join(storage.read(key, 0, storage.look(key).size))
        yield f"the object {key}", key + content.decode("utf-8", errors="replace")
