"""Keys over HTTP: made, listed, rotated and revoked by a project's admin."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.projects.service import NewKey, create_key
from app.projects.tables import ApiKey

CI = {"name": "ci", "scopes": ["jobs:read", "jobs:write"]}


def make(client: TestClient, **fields: object) -> dict[str, Any]:
    answer = client.post("/keys", json=CI | fields)
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


def may_read(client: TestClient, key: str) -> bool:
    return client.get("/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_key_that_was_made_opens_what_its_scopes_allow(client: TestClient) -> None:
    new = make(client)
    headers = {"Authorization": f"Bearer {new['key']}"}

    assert may_read(client, new["key"])
    assert client.get("/keys", headers=headers).status_code == 403
    assert (new["name"], new["scopes"], new["active"]) == ("ci", CI["scopes"], True)
    assert new["expires_at"] is None


def test_the_secret_is_shown_once_and_kept_by_no_cache(client: TestClient) -> None:
    answer = client.post("/keys", json=CI)
    listed = client.get("/keys").text

    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["id"] in listed
    assert answer.json()["key"].split("_", 2)[2] not in listed


def test_a_key_may_expire(client: TestClient) -> None:
    new = make(client, expires_in_seconds=3600)

    left = datetime.fromisoformat(new["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"name": ""},
        {"name": "nul\0"},
        {"expires_in_seconds": 0},
        {"project_id": "prj_1"},
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, fields: dict[str, object]) -> None:
    assert client.post("/keys", json=CI | fields).status_code == 422


def test_keys_are_listed_page_by_page(client: TestClient, key: NewKey) -> None:
    made = {make(client)["id"] for _ in range(3)} | {key.id}

    first = client.get("/keys", params={"limit": 3}).json()
    rest = client.get("/keys", params={"cursor": first["next_cursor"]}).json()

    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert {each["id"] for each in first["data"] + rest["data"]} == made
    assert len(first["data"]) == 3


def test_another_projects_keys_are_not_listed(client: TestClient, foreign_key: NewKey) -> None:
    assert foreign_key.id not in client.get("/keys").text


def test_a_rotated_key_and_its_successor_both_work_until_the_grace_time_ends(
    client: TestClient,
) -> None:
    old = make(client)
    new = client.post(f"/keys/{old['id']}/rotate", json={"grace_seconds": 60}).json()

    (shown,) = (each for each in client.get("/keys").json()["data"] if each["id"] == old["id"])
    ends = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["rotated_at"])
    assert ends == timedelta(seconds=60)
    assert may_read(client, old["key"])
    assert may_read(client, new["key"])
    assert (new["name"], new["scopes"], new["expires_at"]) == (old["name"], old["scopes"], None)


def test_a_rotation_without_grace_ends_the_old_key(client: TestClient) -> None:
    old = make(client)

    client.post(f"/keys/{old['id']}/rotate", json={"grace_seconds": 0})

    assert not may_read(client, old["key"])


def test_a_grace_time_is_a_number_and_neither_true_nor_a_text(client: TestClient) -> None:
    old = make(client)

    for grace in (True, "60", 0.5):
        answer = client.post(f"/keys/{old['id']}/rotate", json={"grace_seconds": grace})
        assert (answer.status_code, answer.json()["field"]) == (422, "grace_seconds")
    assert may_read(client, old["key"])


def test_a_grace_time_makes_no_key_last_longer(client: TestClient) -> None:
    old = make(client, expires_in_seconds=60)

    client.post(f"/keys/{old['id']}/rotate")

    (shown,) = (each for each in client.get("/keys").json()["data"] if each["id"] == old["id"])
    assert shown["expires_at"] == old["expires_at"]


def test_a_successor_lasts_as_long_as_its_key_was_made_for(client: TestClient) -> None:
    old = make(client, expires_in_seconds=3600)
    new = client.post(f"/keys/{old['id']}/rotate").json()

    for each in (old, new):
        lasts = datetime.fromisoformat(each["expires_at"]) - datetime.fromisoformat(
            each["created_at"]
        )
        assert abs(lasts - timedelta(hours=1)) < timedelta(seconds=5)


def test_a_key_is_rotated_once(client: TestClient) -> None:
    old = make(client)
    answers = [client.post(f"/keys/{old['id']}/rotate") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 409]
    assert answers[1].json()["type"].endswith("key_not_active")


def test_a_revoked_key_opens_nothing_and_stays_in_the_list(client: TestClient) -> None:
    new = make(client)

    assert [client.delete(f"/keys/{new['id']}").status_code for _ in range(2)] == [204, 204]
    (shown,) = (each for each in client.get("/keys").json()["data"] if each["id"] == new["id"])
    assert (shown["active"], shown["revoked_at"] is None) == (False, False)
    assert not may_read(client, new["key"])
    assert client.post(f"/keys/{new['id']}/rotate").status_code == 409


@pytest.mark.parametrize("method_and_path", [("POST", "/keys/{}/rotate"), ("DELETE", "/keys/{}")])
def test_another_projects_key_is_the_same_as_none(
    client: TestClient, foreign_key: NewKey, method_and_path: tuple[str, str]
) -> None:
    method, path = method_and_path
    answers = [
        client.request(method, path.format(key_id), headers={"X-Request-ID": "1"})
        for key_id in (foreign_key.id, "00000000")
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert may_read(client, foreign_key.key)


def test_when_a_key_was_last_used_is_shown(client: TestClient, engine: Engine) -> None:
    used_at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    with engine.begin() as connection:
        connection.execute(update(ApiKey).values(last_used_at=used_at))

    (shown,) = client.get("/keys").json()["data"]
    assert datetime.fromisoformat(shown["last_used_at"]) == used_at


def test_two_projects_may_name_their_keys_alike(engine: Engine) -> None:
    with engine.begin() as connection:
        keys = [create_key(connection, name="ci", project=name) for name in ("a", "b")]

    assert len({each.project_id for each in keys}) == 2
