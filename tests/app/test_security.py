"""API keys: which are let in, and that every kind of bad one looks the same."""

import asyncio
import logging
from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from app.db import async_engine
from app.keyring import REMEMBERED_SECONDS, Keyring
from app.projects import queries
from app.projects.service import NewKey, create_key, revoke_key
from app.projects.tables import ApiKey, Scope
from app.security import valid_keys
from app.settings import Settings
from tests.app.operations import Operation, operations
from tests.app.statements import counted
from tests.jobs import submit


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def bearer(key: NewKey | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.key}"}


@pytest.fixture
def clock(api: FastAPI) -> Clock:
    """Of the key ring."""
    clock = Clock()
    api.state.keyring = Keyring(clock)
    return clock


@pytest.fixture
def bad_keys(engine: Engine, key: NewKey) -> dict[str, str | None]:
    """A key of each kind that lets nobody in."""
    with engine.begin() as connection:
        expired = create_key(connection, name="e", lifetime=timedelta(0))
        revoked = create_key(connection, name="r")
        revoke_key(connection, revoked.project_id, revoked.id)
    return {
        "missing": None,
        "malformed": "pst_",
        "unknown": "pst_00000000_" + "A" * 43,
        "wrong secret": f"pst_{key.id}_" + "A" * 43,
        "expired": expired.key,
        "revoked": revoked.key,
    }


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
        "detail": "The API key is missing, malformed, unknown, expired or revoked.",
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


PARAMETERS = dict.fromkeys(
    (
        *("job_id", "key_id", "format", "name", "namespace", "revision", "path"),
        *("endpoint_id", "delivery_id", "dataset_id", "sweep_id", "estimate_id"),
    ),
    "packed",
)


def ask(client: TestClient, operation: Operation, key: NewKey | None = None) -> int:
    headers = bearer(key) if key else {}
    return client.request(operation.method, operation.at(PARAMETERS), headers=headers).status_code


def test_every_other_route_needs_one(api: FastAPI, anonymous: TestClient) -> None:
    refused = {str(each): ask(anonymous, each) for each in operations(api)}

    assert len(refused) >= 30
    # Not every GET has a HEAD.
    assert set(refused.values()) <= {401, 405}
    assert {refused[each] for each in refused if not each.startswith("HEAD")} == {401}


def test_every_kind_of_bad_key_costs_the_same_statements_and_gets_the_same_answer(
    api: FastAPI, anonymous: TestClient, bad_keys: dict[str, str | None]
) -> None:
    answers, statements = {}, {}
    for kind, bad in bad_keys.items():
        headers = {"X-Request-ID": "1"} | (bearer(bad) if bad else {})
        with counted(api) as sent:
            answer = anonymous.get("/jobs", headers=headers)
        answers[kind] = (answer.status_code, answer.content, dict(answer.headers))
        statements[kind] = sent

    assert all(answer == answers["missing"] for answer in answers.values())
    assert all(sent == statements["unknown"] for sent in statements.values() if sent)
    # "missing" and "malformed" are one and the same: remembered.
    assert [kind for kind, sent in statements.items() if len(sent) != 1] == ["malformed"]


def test_looking_at_a_job_takes_one_statement_and_one_more_for_the_key_at_times(
    api: FastAPI, client: TestClient, sessions: sessionmaker[Session], key: NewKey, clock: Clock
) -> None:
    job_id = submit(sessions, key.project_id)
    counts = []
    for seconds in (0.0, 1.0, REMEMBERED_SECONDS):
        clock.now += seconds
        with counted(api) as sent:
            assert client.get(f"/jobs/{job_id}").status_code == 200
        counts.append(len(sent))

    assert counts == [2, 1, 2]


def test_a_revoked_key_ends_within_five_seconds(
    client: TestClient, connection: Connection, key: NewKey, clock: Clock
) -> None:
    assert client.get("/jobs").status_code == 200
    with connection.begin():
        revoke_key(connection, key.project_id, key.id)

    clock.now += 5

    assert client.get("/jobs").status_code == 401


def test_a_key_that_expired_ends_within_five_seconds(
    client: TestClient, connection: Connection, clock: Clock
) -> None:
    assert client.get("/jobs").status_code == 200
    with connection.begin():
        connection.execute(update(ApiKey).values(expires_at=ApiKey.created_at))

    clock.now += 5

    assert client.get("/jobs").status_code == 401


def test_a_flood_of_made_up_keys_makes_the_ring_forget_no_key(
    api: FastAPI, anonymous: TestClient, key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.keyring.REMEMBERED", 3)
    anonymous.get("/jobs", headers=bearer(key))
    for number in range(10):
        anonymous.get("/jobs", headers=bearer(f"pst_{number:08x}_" + "A" * 43))

    with counted(api) as sent:
        assert anonymous.get("/jobs", headers=bearer(key)).status_code == 200
    assert len(sent) == 1


@pytest.mark.parametrize("scope", Scope)
def test_a_key_reaches_the_routes_of_its_scope_and_admin_all(
    api: FastAPI, anonymous: TestClient, engine: Engine, scope: Scope
) -> None:
    with engine.begin() as connection:
        narrow = create_key(connection, name="narrow", scopes=[scope])

    refused = {each for each in operations(api) if ask(anonymous, each, narrow) == 403}

    enough = (scope,) if scope is not Scope.ADMIN else tuple(Scope)
    others = {each for each in operations(api) if not set(each.scopes) <= set(enough)}
    assert refused <= others
    # Not every GET has a HEAD.
    assert {each.method for each in others - refused} <= {"HEAD"}


def test_every_route_declares_one_scope(api: FastAPI) -> None:
    assert {each.scopes for each in operations(api)} <= {(scope,) for scope in Scope}


def test_a_missing_scope_is_named(anonymous: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:
        narrow = create_key(connection, name="narrow", scopes=[Scope.JOBS_READ])

    answer = anonymous.post("/jobs", headers=bearer(narrow), json={})

    assert answer.status_code == 403
    assert answer.json()["type"].endswith("insufficient_scope")
    assert "jobs:write" in answer.json()["detail"]
    assert 'scope="jobs:write"' in answer.headers["www-authenticate"]


def test_when_a_key_was_last_used_is_written_behind_the_requests(
    api: FastAPI, key: NewKey, connection: Connection
) -> None:
    last_used = select(ApiKey.last_used_at)
    with TestClient(api) as client:
        with counted(api) as sent:
            client.get("/jobs", headers=bearer(key))
        assert not any("UPDATE" in statement for statement in sent)
        with connection.begin():
            assert connection.scalar(last_used) is None
    # The API has ended.
    assert connection.scalar(last_used) is not None


def test_when_a_key_was_last_used_is_written_once_a_minute(engine: Engine, key: NewKey) -> None:
    written = []
    for _ in range(2):
        with engine.begin() as connection:
            connection.execute(queries.write_last_used([key.id]))
            written.append(connection.scalar(select(ApiKey.last_used_at)))

    assert written[0] == written[1]


def test_what_goes_on_for_long_can_ask_again_whether_its_key_is_valid(
    settings: Settings, bad_keys: dict[str, str | None], key: NewKey
) -> None:
    ids = {kind: (bad or "pst_none").split("_")[1] for kind, bad in bad_keys.items()}
    ids["good"] = key.id

    async def ask() -> set[str]:
        engine = async_engine(settings.database_url or "")
        async with AsyncSession(engine) as session:
            found = await valid_keys(session, ids.values())
        await engine.dispose()
        return found

    valid = asyncio.run(ask())

    # Its secret is not looked at again.
    assert {kind for kind, key_id in ids.items() if key_id in valid} == {"good", "wrong secret"}


def test_no_key_is_ever_logged(
    api: FastAPI, key: NewKey, bad_keys: dict[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    secrets = [each for each in (key.key, *bad_keys.values()) if each and len(each) > 10]
    caplog.set_level(logging.DEBUG)
    with TestClient(api, raise_server_exceptions=False) as client:
        for each in secrets:
            for path in ("/jobs", "/hf/jobs/x/resolve/main/y", f"/jobs?key={each}"):
                client.get(path, headers=bearer(each))

    ours = [record.getMessage() for record in caplog.records if record.name != "httpx2"]
    assert ours
    assert not [line for line in ours if any(each.split("_", 2)[2] in line for each in secrets)]
