"""API keys: which are let in, and that every kind of bad one looks the same."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, select

from app.projects.service import NewKey
from app.projects.tables import ApiKey


def test_a_good_key_is_let_in(client: TestClient) -> None:
    assert client.get("/jobs").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer pst_00000000_" + "A" * 43,
        "Bearer hf_token",
        "Basic dXNlcjpwYXNz",
        "Bearer " + "x" * 5000,
    ],
)
def test_every_bad_key_gets_the_same_answer(anonymous: TestClient, header: str | None) -> None:
    headers = {"X-Request-ID": "1"} | ({} if header is None else {"Authorization": header})
    answer = anonymous.get("/jobs", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {
        "type": "/problems/invalid_key",
        "title": "The API key is not valid",
        "status": 401,
        "detail": "The API key is missing, malformed or unknown.",
        "remedy": "Send Authorization: Bearer pst_…; `pst keys create` makes one.",
        "errors": [],
        "request_id": "1",
    }


def test_a_key_with_one_character_changed_is_refused(anonymous: TestClient, key: NewKey) -> None:
    # Not the last one: of its six bits only four are part of the secret.
    wrong = key.key[:-2] + ("B" if key.key[-2] == "A" else "A") + key.key[-1]

    answer = anonymous.get("/jobs", headers={"Authorization": f"Bearer {wrong}"})

    assert answer.status_code == 401


def test_a_key_in_the_query_string_is_not_looked_at(anonymous: TestClient, key: NewKey) -> None:
    assert anonymous.get("/jobs", params={"key": key.key}).status_code == 401


def test_only_the_hash_of_the_secret_is_kept(connection: Connection, key: NewKey) -> None:
    row = connection.execute(select(*ApiKey.__table__.columns)).one()

    secret = key.key.split("_", 2)[2]
    assert secret not in repr(row)
    assert len(row.secret_sha256) == 32


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/problems"])
def test_what_tells_no_secrets_needs_no_key(anonymous: TestClient, path: str) -> None:
    assert anonymous.get(path).status_code == 200


def test_every_other_route_needs_one(anonymous: TestClient) -> None:
    operations = [
        (method, path)
        for path, methods in anonymous.get("/openapi.json").json()["paths"].items()
        for method in methods
        if not path.startswith(("/healthz", "/readyz", "/problems"))
    ]

    answers = {
        (method, path): anonymous.request(method, path.replace("{job_id}", "job_0"))
        for method, path in operations
    }

    assert len(answers) >= 8
    assert {answer.status_code for answer in answers.values()} == {401}
