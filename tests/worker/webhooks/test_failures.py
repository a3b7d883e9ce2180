"""An endpoint that does not take what it is sent is asked again, ever more seldom, then no more."""

import socket
from contextlib import closing
from datetime import datetime

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from app.webhooks.tables import Disabled, State, WebhookDelivery, WebhookEndpoint
from tests.jobs import bring_to, submit
from tests.receiver import Behaviour, Receiver, babble, flood_head, status
from tests.webhooks import (
    add_endpoint,
    allowing,
    deliver_due,
    delivery_rows,
    endpoint_row,
    let_pass,
)
from worker.deliveries import MOST_REST_SECONDS, Courier

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def settings(settings: Settings, receiver: Receiver) -> Settings:
    return allowing(settings, receiver.port, webhook_backoff_seconds=5.0)


@pytest.fixture
def waiting(
    sessions: sessionmaker[Session], key: NewKey, endpoint: str, receiver: Receiver
) -> WebhookDelivery:
    """A delivery to an endpoint that refuses it."""
    del endpoint
    receiver.behaviour = status(500)
    submit(sessions, key.project_id)
    (row,) = delivery_rows(sessions)
    return row


def only(sessions: sessionmaker[Session]) -> WebhookDelivery:
    (row,) = delivery_rows(sessions)
    return row


def wait_of(row: WebhookDelivery) -> float:
    """Seconds from its last attempt to the next."""
    return (row.next_at - datetime.fromisoformat(row.log[-1]["at"])).total_seconds()


@pytest.mark.usefixtures("waiting")
def test_it_is_tried_again_under_the_same_id_until_it_is_taken(
    sessions: sessionmaker[Session], courier: Courier, receiver: Receiver
) -> None:
    for _ in range(2):
        deliver_due(courier)
        let_pass(sessions, HOUR)
    receiver.behaviour = status(204)
    deliver_due(courier)

    row = only(sessions)
    assert receiver.ids == 3 * [row.id]
    assert len({each.body for each in receiver.received}) == 1
    assert row.state == State.DELIVERED
    assert [(each["number"], each["status"], each["error"]) for each in row.log] == [
        (1, 500, "refused"),
        (2, 500, "refused"),
        (3, 204, None),
    ]


@pytest.mark.usefixtures("waiting")
def test_each_wait_is_about_twice_the_one_before_up_to_a_cap(
    sessions: sessionmaker[Session], courier: Courier
) -> None:
    waits = []
    for _ in range(16):
        deliver_due(courier)
        waits.append(wait_of(only(sessions)))
        with sessions.begin() as session:
            # As if it had just been queued: how long it is tried is another test's.
            now = func.clock_timestamp()
            session.execute(update(WebhookDelivery).values(next_at=now, queued_at=now))
            session.execute(update(WebhookEndpoint).values(rests_until=now))

    expected = [min(5.0 * 2**n, 8.0 * HOUR) for n in range(16)]
    assert expected[-1] == 8 * HOUR
    for wait, middle in zip(waits, expected, strict=True):
        assert 0.79 * middle < wait < 1.21 * middle + 5
    assert len({round(wait / middle, 3) for wait, middle in zip(waits, expected, strict=True)}) > 8


@pytest.mark.usefixtures("waiting")
def test_it_is_given_up_in_the_end(sessions: sessionmaker[Session], courier: Courier) -> None:
    deliver_due(courier)
    let_pass(sessions, 2 * DAY)
    deliver_due(courier)

    row = only(sessions)
    assert (row.state, row.attempts) == (State.FAILED, 2)
    assert row.finished_at is not None


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("120", 120, 125), ("0", 4, 11), ("999999", 8 * HOUR, 8 * HOUR + 5), ("soon", 4, 11)],
)
def test_it_waits_for_as_long_as_it_was_asked_to_within_bounds(
    sessions: sessionmaker[Session],
    courier: Courier,
    receiver: Receiver,
    waiting: WebhookDelivery,
    asked: str,
    least: float,
    most: float,
) -> None:
    del waiting
    receiver.behaviour = status(429, Retry_After=asked)
    deliver_due(courier)

    assert least <= wait_of(only(sessions)) <= most


def test_a_410_switches_the_endpoint_off_at_once(
    sessions: sessionmaker[Session],
    key: NewKey,
    courier: Courier,
    receiver: Receiver,
    endpoint: str,
) -> None:
    receiver.behaviour = status(410)
    bring_to(sessions, key.project_id, "succeeded")

    assert deliver_due(courier) == 1
    assert endpoint_row(sessions, endpoint).disabled_reason == Disabled.GONE
    assert {row.state for row in delivery_rows(sessions)} == {State.FAILED}
    submit(sessions, key.project_id)
    assert len(delivery_rows(sessions)) == 3


def test_an_endpoint_that_takes_nothing_for_days_is_switched_off(
    sessions: sessionmaker[Session],
    key: NewKey,
    courier: Courier,
    waiting: WebhookDelivery,
) -> None:
    reasons = []
    for _ in range(12):
        submit(sessions, key.project_id)
        deliver_due(courier)
        reasons.append(endpoint_row(sessions, waiting.endpoint_id).disabled_reason)
        let_pass(sessions, 0.6 * DAY)

    # Ten times in a row, and for more than five days.
    assert reasons == [*(9 * [None]), *(3 * [Disabled.FAILING])]


def test_one_success_makes_up_for_all_failures(
    sessions: sessionmaker[Session],
    courier: Courier,
    receiver: Receiver,
    waiting: WebhookDelivery,
) -> None:
    for behaviour in (status(500), status(500), status(200)):
        receiver.behaviour = behaviour
        deliver_due(courier)
        let_pass(sessions, HOUR)

    row = endpoint_row(sessions, waiting.endpoint_id)
    assert (row.failures, row.failing_since) == (0, None)


def test_younger_ones_do_not_wait_for_one_that_is_refused(
    sessions: sessionmaker[Session],
    key: NewKey,
    courier: Courier,
    receiver: Receiver,
    waiting: WebhookDelivery,
) -> None:
    for _ in range(6):
        deliver_due(courier)
        let_pass(sessions, MOST_REST_SECONDS)
    deliver_due(courier)
    submit(sessions, key.project_id)
    receiver.behaviour = status(204)
    let_pass(sessions, MOST_REST_SECONDS)

    deliver_due(courier)

    first, second = delivery_rows(sessions)
    assert first.id == waiting.id
    assert second.state == State.DELIVERED


def test_an_endpoint_that_fails_rests_whatever_else_is_due(
    sessions: sessionmaker[Session], key: NewKey, courier: Courier, waiting: WebhookDelivery
) -> None:
    """A thousand deliveries to one that is down are not a thousand attempts."""
    del waiting
    for _ in range(5):
        submit(sessions, key.project_id)

    assert deliver_due(courier) == 1
    let_pass(sessions, 5)
    assert deliver_due(courier) == 1


def test_a_failing_endpoint_leaves_senders_to_those_that_work(
    sessions: sessionmaker[Session], courier: Courier, waiting: WebhookDelivery
) -> None:
    deliver_due(courier)
    let_pass(sessions, HOUR)
    del waiting

    assert courier.claim(failing=False) is None
    assert courier.claim(failing=True) is not None


@pytest.mark.parametrize(
    ("behaviour", "code", "error"),
    [
        (status(302, Location="/elsewhere"), 302, "redirected"),
        (status(404), 404, "refused"),
        (babble, None, "protocol"),
        (flood_head, None, "protocol"),
    ],
    ids=["redirects", "refuses", "speaks no HTTP", "floods with headers"],
)
def test_what_is_no_success_is_a_failure(
    sessions: sessionmaker[Session],
    courier: Courier,
    receiver: Receiver,
    waiting: WebhookDelivery,
    behaviour: Behaviour,
    code: int | None,
    error: str,
) -> None:
    del waiting
    receiver.behaviour = behaviour
    deliver_due(courier)

    (entry,) = only(sessions).log
    assert (entry["status"], entry["error"]) == (code, error)
    assert len(receiver.received) == 1


def test_one_that_answers_too_late_has_not_taken_it(
    sessions: sessionmaker[Session],
    key: NewKey,
    settings: Settings,
    receiver: Receiver,
    endpoint: str,
) -> None:
    del endpoint
    receiver.behaviour = receiver.hang
    submit(sessions, key.project_id)
    hurried = settings.model_copy(update={"webhook_timeout_seconds": 0.3})
    with closing(Courier(hurried)) as courier:
        deliver_due(courier)

    assert only(sessions).log[0]["error"] == "timeout"


def test_one_that_is_down_is_tried_again(
    sessions: sessionmaker[Session], key: NewKey, settings: Settings
) -> None:
    # Bound, so that nobody else takes the port, and not listening.
    with socket.socket() as down:
        down.bind(("127.0.0.1", 0))
        port = down.getsockname()[1]
        allowed = allowing(settings, port)
        add_endpoint(sessions, allowed, key.project_id, f"http://127.0.0.1:{port}")
        submit(sessions, key.project_id)
        with closing(Courier(allowed)) as courier:
            deliver_due(courier)

    row = only(sessions)
    assert (row.state, row.log[0]["error"]) == (State.PENDING, "not_connected")


def test_a_log_does_not_grow_for_ever(
    sessions: sessionmaker[Session], courier: Courier, waiting: WebhookDelivery
) -> None:
    with sessions.begin() as session:
        session.execute(update(WebhookDelivery).values(log=[{"number": n} for n in range(1, 60)]))
    del waiting
    deliver_due(courier)

    log = only(sessions).log
    assert (len(log), log[-1]["error"], log[0]["number"]) == (30, "refused", 31)
