"""What an owner asks of an endpoint and its deliveries, and what then is sent."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook, WebhookVerificationError

from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from app.webhooks.tables import State
from tests.jobs import submit
from tests.receiver import Receiver, status
from tests.webhooks import deliver_due, delivery_rows, endpoint_row, let_pass
from worker.deliveries import Courier

DAY = 24 * 3600
Json = dict[str, Any]


@pytest.fixture
def client(settings: Settings, key: NewKey) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {key.key}"
        yield client


@pytest.fixture
def made(client: TestClient, receiver: Receiver) -> Json:
    made: Json = client.post("/webhook-endpoints", json={"url": receiver.url}).json()
    return made


@pytest.fixture
def path(made: Json) -> str:
    return f"/webhook-endpoints/{made['id']}"


def signed_by(receiver: Receiver, *secrets: str) -> list[bool]:
    """Whether the newest message is, by each of them."""
    received = receiver.received[-1]

    def verifies(secret: str) -> bool:
        try:
            Webhook(secret).verify(received.body.decode(), dict(received.headers))
        except WebhookVerificationError:
            return False
        return True

    return [verifies(secret) for secret in secrets]


def test_a_test_is_sent_whatever_the_endpoints_events_are(
    client: TestClient, path: str, made: Json, courier: Courier, receiver: Receiver
) -> None:
    client.patch(path, json={"events": ["job.failed"]})

    pending = client.post(f"{path}/test")
    deliver_due(courier)

    assert pending.status_code == 202
    assert receiver.received[0].id == pending.json()["id"]
    assert receiver.received[0].json["data"] == {"webhook_endpoint_id": made["id"]}
    assert receiver.types == ["webhook.ping"]
    assert signed_by(receiver, made["secret"]) == [True]


def test_after_a_rotation_both_secrets_sign_for_a_day(
    client: TestClient,
    path: str,
    made: Json,
    courier: Courier,
    receiver: Receiver,
    sessions: sessionmaker[Session],
) -> None:
    rotated = client.post(f"{path}/rotate-secret").json()
    client.post(f"{path}/test")
    deliver_due(courier)
    both = signed_by(receiver, made["secret"], rotated["secret"])
    let_pass(sessions, DAY)
    client.post(f"{path}/test")
    deliver_due(courier)

    assert both == [True, True]
    assert signed_by(receiver, made["secret"], rotated["secret"]) == [False, True]


def test_a_rotation_without_overlap_ends_the_old_secret_at_once(
    client: TestClient, path: str, made: Json, courier: Courier, receiver: Receiver
) -> None:
    rotated = client.post(f"{path}/rotate-secret", json={"overlap_seconds": 0}).json()
    client.post(f"{path}/test")
    deliver_due(courier)

    assert signed_by(receiver, made["secret"], rotated["secret"]) == [False, True]


def test_after_another_key_nothing_is_sent_before_a_rotation(
    client: TestClient, path: str, settings: Settings, receiver: Receiver
) -> None:
    """Or receivers would get signatures that they cannot verify."""
    (settings.data / "webhook.key").unlink()
    with closing(Courier(settings)) as courier:
        client.post(f"{path}/test")
        deliver_due(courier)
        unsent = client.get(f"{path}/deliveries").json()["data"][0]
        client.patch(path, json={"enabled": False})
        client.patch(path, json={"enabled": True})
        rotated = client.post(f"{path}/rotate-secret").json()
        client.post(f"{path}/test")
        deliver_due(courier)

    assert unsent["attempts"][0]["error"] == "key_changed"
    assert rotated["previous_until"] is None
    assert signed_by(receiver, rotated["secret"]) == [True]


def test_a_log_tells_of_each_attempt(
    client: TestClient,
    path: str,
    courier: Courier,
    receiver: Receiver,
    sessions: sessionmaker[Session],
) -> None:
    receiver.behaviour = status(503)
    client.post(f"{path}/test")
    deliver_due(courier)
    let_pass(sessions, 3600)
    receiver.behaviour = status(200)
    deliver_due(courier)

    (delivery,) = client.get(f"{path}/deliveries").json()["data"]

    assert (delivery["state"], delivery["next_at"]) == ("delivered", None)
    assert [(each["number"], each["status"], each["error"]) for each in delivery["attempts"]] == [
        (1, 503, "refused"),
        (2, 200, None),
    ]


def test_deliveries_are_listed_newest_first_and_by_state(
    client: TestClient, path: str, courier: Courier, receiver: Receiver
) -> None:
    ids = []
    for code in (200, 500, 200):
        receiver.behaviour = status(code)
        ids.append(client.post(f"{path}/test").json()["id"])
        deliver_due(courier)
    first = client.get(f"{path}/deliveries", params={"limit": 2}).json()
    rest = client.get(f"{path}/deliveries", params={"cursor": first["next_cursor"]}).json()
    other = client.get(
        f"{path}/deliveries", params={"cursor": first["next_cursor"], "state": "pending"}
    )

    assert [each["id"] for each in first["data"] + rest["data"]] == ids[::-1]
    delivered = client.get(f"{path}/deliveries", params={"state": "delivered"}).json()["data"]
    assert ids[0] in [each["id"] for each in delivered]
    assert ids[1] not in [each["id"] for each in delivered]
    assert other.json()["type"].endswith("cursor_of_another_list")


def test_a_replay_is_sent_under_the_same_id(
    client: TestClient, path: str, courier: Courier, receiver: Receiver
) -> None:
    delivery_id = client.post(f"{path}/test").json()["id"]
    deliver_due(courier)

    replayed = client.post(f"{path}/deliveries/{delivery_id}/replay")
    deliver_due(courier)

    assert (replayed.status_code, replayed.json()["state"]) == (202, "pending")
    assert receiver.ids == 2 * [delivery_id]
    assert receiver.received[0].body == receiver.received[1].body


def test_a_replay_of_what_was_given_up_is_tried_for_as_long_again(
    client: TestClient,
    path: str,
    courier: Courier,
    receiver: Receiver,
    sessions: sessionmaker[Session],
) -> None:
    receiver.behaviour = status(500)
    delivery_id = client.post(f"{path}/test").json()["id"]
    deliver_due(courier)
    let_pass(sessions, 2 * DAY)
    deliver_due(courier)
    assert delivery_rows(sessions)[0].state == State.FAILED
    let_pass(sessions, 3600)

    client.post(f"{path}/deliveries/{delivery_id}/replay")
    deliver_due(courier)

    (row,) = delivery_rows(sessions)
    assert (row.state, row.attempts, row.tries) == (State.PENDING, 3, 1)


def test_to_one_that_is_switched_off_nothing_can_be_sent(client: TestClient, path: str) -> None:
    delivery_id = client.post(f"{path}/test").json()["id"]
    client.patch(path, json={"enabled": False})

    for asked in (f"{path}/test", f"{path}/deliveries/{delivery_id}/replay"):
        answer = client.post(asked)
        assert answer.status_code == 409
        assert answer.json()["type"] == "/problems/endpoint_disabled"


def test_what_is_on_its_way_to_an_old_url_says_nothing_of_the_new(
    client: TestClient,
    path: str,
    made: Json,
    courier: Courier,
    receiver: Receiver,
    sessions: sessionmaker[Session],
) -> None:
    client.post(f"{path}/test")
    claimed = courier.claim()
    assert claimed is not None
    receiver.behaviour = status(410)

    client.patch(path, json={"url": receiver.url + "/new"})
    courier.deliver(claimed)

    assert endpoint_row(sessions, made["id"]).enabled


def test_deliveries_are_kept_for_a_while_and_those_of_a_deleted_endpoint_not(
    client: TestClient,
    path: str,
    made: Json,
    courier: Courier,
    sessions: sessionmaker[Session],
    key: NewKey,
    receiver: Receiver,
) -> None:
    client.post(f"{path}/test")
    deliver_due(courier)
    courier.tidy()
    assert len(delivery_rows(sessions)) == 1
    let_pass(sessions, 7 * DAY)
    courier.tidy()
    assert delivery_rows(sessions) == []

    submit(sessions, key.project_id)
    client.delete(path)
    courier.tidy()
    assert delivery_rows(sessions) == []
    # A statement that has seen it before may still write a delivery of it.
    assert endpoint_row(sessions, made["id"]).deleted_at is not None
    let_pass(sessions, 3600)
    courier.tidy()
    assert client.get(path).status_code == 404
    assert receiver.types == ["webhook.ping"]


def test_what_is_too_old_is_given_up_without_another_attempt(
    client: TestClient, path: str, courier: Courier, sessions: sessionmaker[Session]
) -> None:
    client.post(f"{path}/test")
    let_pass(sessions, 2 * DAY)
    courier.tidy()

    assert deliver_due(courier) == 0
    assert delivery_rows(sessions)[0].state == State.FAILED
