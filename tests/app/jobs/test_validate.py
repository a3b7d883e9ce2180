"""POST /jobs?validate_only=true: what would be run, and nothing is."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, func, select

from app.idempotency.tables import IdempotencyKey
from app.jobs.tables import Job

ASKED = {"validate_only": "true"}


def test_a_good_spec_is_shown_as_the_job_that_it_would_be(
    client: TestClient, spec: dict[str, object]
) -> None:
    body = spec | {"metadata": {"team": "a"}, "hyperparameters": {"epochs": 2}}

    answer = client.post("/jobs", params=ASKED, json=body)

    job = client.post("/jobs", json=body).json()
    assert answer.status_code == 200
    resolved = answer.json()
    # Nobody has asked what it would take.
    assert resolved.pop("estimate") is None
    assert resolved == {name: job[name] for name in resolved}
    assert answer.json()["hyperparameters"]["epochs"] == 2
    assert "location" not in answer.headers


def test_nothing_is_stored(
    client: TestClient, connection: Connection, spec: dict[str, object]
) -> None:
    client.post("/jobs", params=ASKED, json=spec, headers={"Idempotency-Key": "one"})

    for table in (Job, IdempotencyKey):
        assert connection.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [({"sparsity": 2}, "sparsity"), ({"model": "pkg:nope"}, "model")],
)
def test_a_bad_spec_is_refused_as_when_it_is_posted(
    client: TestClient, spec: dict[str, object], change: dict[str, Any], field: str
) -> None:
    headers = {"X-Request-ID": "the-same"}
    checked = client.post("/jobs", params=ASKED, json=spec | change, headers=headers)
    posted = client.post("/jobs", json=spec | change, headers=headers)

    assert (checked.status_code, checked.json()["field"]) == (422, field)
    assert checked.json() == posted.json()


def test_a_check_needs_a_key(anonymous: TestClient, spec: dict[str, object]) -> None:
    assert anonymous.post("/jobs", params=ASKED, json=spec).status_code == 401
