"""What every request passes: ids, unknown paths and methods, a database that is away."""

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings


def test_a_given_request_id_is_echoed(client: TestClient) -> None:
    answer = client.get("/jobs", headers={"X-Request-ID": "pipeline-7"})

    assert answer.headers["x-request-id"] == "pipeline-7"


@pytest.mark.parametrize("given", ["a b", "x" * 200, "a;b"])
def test_a_malformed_request_id_is_replaced(client: TestClient, given: str) -> None:
    answer = client.get("/jobs", headers={"X-Request-ID": given})

    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/x", 404), ("PUT", "/jobs", 405)])
def test_unknown_paths_and_methods_are_problems_too(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/jobs", "GET, POST"), ("/jobs/job_1", "GET, DELETE"), ("/jobs/job_1/cancel", "POST")],
)
def test_a_method_that_is_not_allowed_is_told_all_that_are(
    client: TestClient, path: str, allowed: str
) -> None:
    assert client.patch(path).headers["allow"] == allowed


def test_a_database_that_is_away_is_a_503_that_says_when_to_come_back(
    settings: Settings,
) -> None:
    nowhere = "postgresql+psycopg://pst@/pst?host=/nowhere"
    app = create_app(settings.model_copy(update={"database_url": nowhere}))
    with TestClient(app, raise_server_exceptions=False) as client:
        key = {"Authorization": "Bearer pst_00000000_" + "A" * 43}
        answer = client.get("/jobs", headers=key)
        readiness = client.get("/readyz")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"] == "/problems/database_unavailable"
    assert (readiness.status_code, readiness.json()["database"]) == (503, False)
