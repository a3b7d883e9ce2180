"""Endpoints as their owners make, change, try and delete them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.states import MOVES
from app.main import create_app
from app.projects.service import NewKey, create_key
from app.projects.tables import Scope
from app.settings import Settings
from app.webhooks.events import EventType
from app.webhooks.tables import WebhookEndpoint
from tests.jobs import submit
from tests.webhooks import delivery_rows, endpoint_row, secret_of

PATH = "/webhook-endpoints"
URL = "https://hooks.example.com/pst"
Json = dict[str, Any]
Make = Callable[..., Json]


@pytest.fixture
def make(client: TestClient) -> Make:
    def make(**fields: object) -> Json:
        answer = client.post(PATH, json={"url": URL, **fields})
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    return make


def test_there_is_a_type_for_each_move() -> None:
    assert {f"job.{move.event}" for move in MOVES} == set(EventType)


def test_a_secret_is_shown_once(client: TestClient, make: Make, settings: Settings) -> None:
    made = make()

    assert made["secret"] == secret_of(settings, made["id"])
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made["secret"])
    for shown in (client.get(f"{PATH}/{made['id']}"), client.get(PATH)):
        assert "secret" not in shown.text.replace("rotate-secret", "")


def test_no_secret_is_in_the_database(
    make: Make, settings: Settings, engine: Engine, client: TestClient
) -> None:
    made = make()
    secret = client.post(f"{PATH}/{made['id']}/rotate-secret").json()["secret"]
    key = (settings.data / "webhook.key").read_bytes()

    with engine.connect() as connection:
        rows = str(connection.execute(text("SELECT * FROM webhook_endpoints")).all())
    for known in (made["secret"], secret):
        assert known.removeprefix("whsec_") not in rows
    assert key.hex() not in rows
    assert (settings.data / "webhook.key").stat().st_mode & 0o077 == 0


def test_a_key_in_the_settings_is_used_instead_of_the_file(settings: Settings, key: NewKey) -> None:
    own = Settings.model_validate({**settings.model_dump(), "webhook_key": "k" * 32})
    with TestClient(create_app(own), headers={"Authorization": f"Bearer {key.key}"}) as client:
        made = client.post(PATH, json={"url": URL}).json()

    assert made["secret"] == secret_of(own, made["id"])
    assert not (settings.data / "webhook.key").exists()


def test_what_a_patch_does_not_name_stays(client: TestClient, make: Make) -> None:
    made = make(events=["job.succeeded"], description="nightly")
    path = f"{PATH}/{made['id']}"

    assert client.patch(path, json={}).json() == client.get(path).json()
    changed = client.patch(path, json={"description": "daily"}).json()
    assert (changed["description"], changed["events"]) == ("daily", ["job.succeeded"])
    assert client.patch(path, json={"events": None}).json()["events"] is None


def test_one_that_is_switched_off_gets_nothing_of_what_happens_then(
    client: TestClient, make: Make, sessions: sessionmaker[Session], key: NewKey
) -> None:
    path = f"{PATH}/{make()['id']}"
    submit(sessions, key.project_id)

    off = client.patch(path, json={"enabled": False}).json()
    submit(sessions, key.project_id)
    on = client.patch(path, json={"enabled": True}).json()
    submit(sessions, key.project_id)

    assert (off["enabled"], off["disabled_reason"]) == (False, "asked")
    assert (on["enabled"], on["disabled_reason"]) == (True, None)
    assert [row.state for row in delivery_rows(sessions)] == ["failed", "pending"]


def test_a_deleted_one_is_gone_at_once(
    client: TestClient, make: Make, sessions: sessionmaker[Session], key: NewKey
) -> None:
    made = make()
    path = f"{PATH}/{made['id']}"

    assert client.delete(path).status_code == 204
    submit(sessions, key.project_id)
    assert client.get(path).status_code == client.delete(path).status_code == 404
    assert client.get(f"{path}/deliveries").status_code == 404
    assert client.get(PATH).json()["data"] == []
    assert delivery_rows(sessions) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:8443/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data",
    ],
)
def test_an_url_that_leads_inside_is_refused(client: TestClient, make: Make, url: str) -> None:
    made = make()

    for answer in (
        client.post(PATH, json={"url": url}),
        client.patch(f"{PATH}/{made['id']}", json={"url": url}),
    ):
        assert answer.status_code == 422
        assert answer.json()["type"] == "/problems/invalid_webhook_url"
        assert answer.json()["errors"][0]["pointer"] == "#/url"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com@127.0.0.1/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/#fragment",
        "https://hooks.example.com/ HTTP/1.1",
        "https://hooks.example.com/\r\nX: y",
        "https://hööks.example.com/",
        "https:///path",
        "//hooks.example.com/",
        "https://hooks.example.com:/",
        "https://hooks.example.com/\n",
    ],
)
def test_an_url_that_can_be_read_in_two_ways_is_refused(client: TestClient, url: str) -> None:
    assert client.post(PATH, json={"url": url}).status_code == 422


@pytest.mark.parametrize("url", ["https://8.8.8.8/", "https://[2606:4700::1]:443/a?b=%20&c[]=1"])
def test_a_public_address_is_taken(client: TestClient, url: str) -> None:
    assert client.post(PATH, json={"url": url.replace("[]", "")}).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": URL, "secret": "whsec_mine"},
        {"url": URL, "events": []},
        {"url": URL, "events": ["job.exploded"]},
        {"url": URL, "events": ["webhook.ping"]},
        {"url": URL, "project_id": "prj_another"},
    ],
)
def test_what_is_unknown_or_missing_is_refused(client: TestClient, body: Json) -> None:
    assert client.post(PATH, json=body).status_code == 422


def test_a_project_has_as_many_as_it_may(settings: Settings, key: NewKey) -> None:
    few = create_app(settings.model_copy(update={"max_webhook_endpoints": 2}))
    with TestClient(few, headers={"Authorization": f"Bearer {key.key}"}) as client:
        made = [client.post(PATH, json={"url": URL}) for _ in range(3)]
        client.delete(f"{PATH}/{made[0].json()['id']}")
        again = client.post(PATH, json={"url": URL})

    assert [answer.status_code for answer in made] == [201, 201, 429]
    assert "PST_MAX_WEBHOOK_ENDPOINTS" in made[2].json()["remedy"]
    assert again.status_code == 201


def test_only_an_admin_may(api: FastAPI, client: TestClient, engine: Engine, make: Make) -> None:
    del api
    made = make()
    others = [Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.DATASETS_WRITE]
    with engine.begin() as connection:
        key = create_key(connection, name="pipeline", scopes=others).key
    headers = {"Authorization": f"Bearer {key}"}

    for answer in (
        client.get(PATH, headers=headers),
        client.get(f"{PATH}/{made['id']}/deliveries", headers=headers),
        client.post(PATH, json={"url": URL}, headers=headers),
    ):
        assert answer.status_code == 403


def test_lists_go_page_by_page(client: TestClient, make: Make) -> None:
    ids = [make()["id"] for _ in range(3)]

    first = client.get(PATH, params={"limit": 2}).json()
    rest = client.get(PATH, params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [each["id"] for each in first["data"] + rest["data"]] == ids
    assert rest["next_cursor"] is None


def test_a_new_url_begins_without_the_failures_of_the_old(
    client: TestClient, make: Make, sessions: sessionmaker[Session]
) -> None:
    made = make()
    with sessions.begin() as session:
        row = session.get(WebhookEndpoint, made["id"])
        assert row is not None
        row.failures, row.failing_since = 7, row.created_at

    changed = client.patch(f"{PATH}/{made['id']}", json={"url": URL + "/2"}).json()

    assert (changed["failures"], changed["failing_since"]) == (0, None)
    assert endpoint_row(sessions, made["id"]).claims == 1
