"""What happens to a job arrives at the endpoints that want to know, signed, at least once."""

import json

import pytest
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook

from app.jobs.states import SUCCEED
from app.projects.service import NewKey
from app.settings import Settings
from app.webhooks.tables import State
from tests.jobs import bring_to, claim, leave, submit
from tests.receiver import Receiver, flood, lie, status
from tests.webhooks import (
    add_endpoint,
    deliver_due,
    delivery_rows,
    endpoint_row,
    let_pass,
    secret_of,
)
from worker.deliveries import Courier

pytestmark = pytest.mark.usefixtures("endpoint")


def test_an_endpoint_is_told_of_a_job_in_order(
    sessions: sessionmaker[Session], key: NewKey, courier: Courier, receiver: Receiver
) -> None:
    job_id = bring_to(sessions, key.project_id, "succeeded")

    assert deliver_due(courier) == 3
    assert receiver.types == ["job.queued", "job.started", "job.succeeded"]
    assert [each.json["data"] for each in receiver.received] == [
        {"job_id": job_id, "status": state, "run": 1, "attempt": attempt, "seq": seq}
        for state, attempt, seq in (("queued", 0, 1), ("running", 1, 2), ("succeeded", 1, 3))
    ]
    assert all(each.json.keys() == {"type", "timestamp", "data"} for each in receiver.received)
    assert [row.state for row in delivery_rows(sessions)] == 3 * [State.DELIVERED]


def test_what_was_taken_is_not_sent_again(
    sessions: sessionmaker[Session], key: NewKey, courier: Courier, receiver: Receiver
) -> None:
    submit(sessions, key.project_id)
    deliver_due(courier)
    let_pass(sessions, 3600)

    assert deliver_due(courier) == 0
    assert len(receiver.received) == 1


def test_a_signature_is_one_of_standard_webhooks(
    sessions: sessionmaker[Session],
    key: NewKey,
    settings: Settings,
    courier: Courier,
    receiver: Receiver,
    endpoint: str,
) -> None:
    submit(sessions, key.project_id)
    deliver_due(courier)

    (received,) = receiver.received
    verified = Webhook(secret_of(settings, endpoint)).verify(
        received.body.decode(), dict(received.headers)
    )
    assert verified == json.loads(received.body)


@pytest.mark.parametrize("behaviour", [lie, flood], ids=["lies in length", "floods"])
def test_of_an_answer_only_the_status_counts(
    sessions: sessionmaker[Session],
    key: NewKey,
    courier: Courier,
    receiver: Receiver,
    behaviour: object,
) -> None:
    receiver.behaviour = behaviour  # type: ignore[assignment] # one of those above
    submit(sessions, key.project_id)
    deliver_due(courier)

    (row,) = delivery_rows(sessions)
    assert row.state == State.DELIVERED
    assert row.log[0].keys() == {"number", "at", "seconds", "status", "error"}


def test_only_what_an_endpoint_wants_is_written(
    sessions: sessionmaker[Session],
    key: NewKey,
    foreign_key: NewKey,
    settings: Settings,
    receiver: Receiver,
) -> None:
    """Of its own project."""
    wants = add_endpoint(sessions, settings, key.project_id, receiver.url, events=["job.succeeded"])
    add_endpoint(sessions, settings, foreign_key.project_id, receiver.url)
    bring_to(sessions, key.project_id, "succeeded")

    told = [row.type for row in delivery_rows(sessions) if row.endpoint_id == wants]
    assert told == ["job.succeeded"]
    assert {row.project_id for row in delivery_rows(sessions)} == {key.project_id}


def test_a_worker_that_has_lost_a_job_tells_nobody(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    leave(sessions, SUCCEED, job)
    before = len(delivery_rows(sessions))

    assert leave(sessions, SUCCEED, job) is None
    assert len(delivery_rows(sessions)) == before


def test_one_endpoint_gets_one_delivery_at_a_time(
    sessions: sessionmaker[Session], key: NewKey, courier: Courier, other_courier: Courier
) -> None:
    """Whoever asks."""
    bring_to(sessions, key.project_id, "succeeded")
    first = courier.claim()

    assert first is not None
    assert other_courier.claim() is None
    courier.deliver(first)
    assert other_courier.claim() is not None


def test_what_a_sender_that_vanished_had_taken_is_sent_again(
    sessions: sessionmaker[Session], key: NewKey, courier: Courier, receiver: Receiver
) -> None:
    submit(sessions, key.project_id)
    lost = courier.claim()
    assert lost is not None
    let_pass(sessions, 3600)

    assert deliver_due(courier) == 1
    assert receiver.ids == [lost.delivery.id]


def test_who_was_too_slow_writes_nothing_over_what_came_after(
    sessions: sessionmaker[Session],
    key: NewKey,
    courier: Courier,
    receiver: Receiver,
    endpoint: str,
) -> None:
    submit(sessions, key.project_id)
    slow = courier.claim()
    assert slow is not None
    let_pass(sessions, 3600)
    deliver_due(courier)

    receiver.behaviour = status(500)
    courier.deliver(slow)

    (row,) = delivery_rows(sessions)
    assert (row.state, len(row.log)) == (State.DELIVERED, 1)
    assert endpoint_row(sessions, endpoint).failures == 0


def test_endpoints_of_one_project_do_not_take_all_senders(
    sessions: sessionmaker[Session],
    key: NewKey,
    foreign_key: NewKey,
    settings: Settings,
    courier: Courier,
    receiver: Receiver,
) -> None:
    for _ in range(4):
        add_endpoint(sessions, settings, key.project_id, receiver.url)
    theirs = add_endpoint(sessions, settings, foreign_key.project_id, receiver.url)
    submit(sessions, key.project_id)
    submit(sessions, foreign_key.project_id)

    claimed = [courier.claim() for _ in range(4)]

    taken = [each.endpoint.id for each in claimed if each is not None]
    assert len(taken) == 3
    assert theirs in taken
