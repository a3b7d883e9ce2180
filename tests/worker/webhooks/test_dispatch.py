"""Deliveries are made side by side; jobs and other endpoints never wait for one that is slow."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import Engine, event, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint
from tests.jobs import bring_to, claim, leave, submit
from tests.receiver import Receiver, receiving
from tests.webhooks import add_endpoint, allowing, delivery_rows
from worker.deliveries import Courier, Dispatcher


@contextmanager
def dispatching(settings: Settings) -> Iterator[None]:
    courier = Courier(settings)
    dispatcher = Dispatcher(settings, courier)
    dispatcher.start()
    try:
        yield
    finally:
        dispatcher.stop()
        dispatcher.join()
        courier.close()


def test_what_happens_arrives_by_itself(
    sessions: sessionmaker[Session],
    key: NewKey,
    settings: Settings,
    receiver: Receiver,
    endpoint: str,
) -> None:
    del endpoint
    with dispatching(settings):
        bring_to(sessions, key.project_id, "succeeded")
        receiver.wait_for(3)

    assert receiver.types == ["job.queued", "job.started", "job.succeeded"]


def test_a_slow_endpoint_holds_up_neither_jobs_nor_others(
    sessions: sessionmaker[Session],
    key: NewKey,
    foreign_key: NewKey,
    settings: Settings,
    receiver: Receiver,
    endpoint: str,
) -> None:
    del endpoint
    receiver.behaviour = receiver.hang
    with receiving() as other:
        both = allowing(settings, receiver.port, other.port, webhook_timeout_seconds=300)
        add_endpoint(sessions, both, foreign_key.project_id, other.url)
        with dispatching(both):
            submit(sessions, key.project_id)
            receiver.wait_for(1)
            # Nothing has been answered yet.
            job = claim(sessions)
            assert leave(sessions, SUCCEED, job) is not None
            submit(sessions, foreign_key.project_id)
            other.wait_for(1)
            assert len(receiver.received) == 1
            receiver.released.set()
            receiver.wait_for(3)

    assert receiver.types == ["job.queued", "job.started", "job.succeeded"]


def test_two_workers_send_each_delivery_once(
    sessions: sessionmaker[Session],
    key: NewKey,
    settings: Settings,
    receiver: Receiver,
    endpoint: str,
) -> None:
    del endpoint
    for _ in range(20):
        submit(sessions, key.project_id)
    with dispatching(settings), dispatching(settings):
        receiver.wait_for(20)

    assert receiver.ids == [row.id for row in delivery_rows(sessions)]


@pytest.mark.parametrize("whose", ["claims it", "changes it", "deletes it"])
def test_a_move_does_not_wait_for_who_holds_an_endpoint(
    sessions: sessionmaker[Session], key: NewKey, engine: Engine, endpoint: str, whose: str
) -> None:
    """It would fail after the lock timeout of 5 seconds."""
    changes: dict[str, dict[str, object]] = {
        "claims it": {"claims": 7},
        "changes it": {"url": "https://example.com", "disabled_reason": "asked"},
        "deletes it": {"deleted_at": text("now()")},
    }
    submit(sessions, key.project_id)
    with engine.begin() as holding:
        holding.execute(
            update(WebhookEndpoint).where(WebhookEndpoint.id == endpoint).values(changes[whose])
        )
        job = claim(sessions)
        assert leave(sessions, SUCCEED, job) is not None

    with sessions() as session:
        assert session.scalar(select(Job.status)) == "succeeded"
        assert len(session.scalars(select(WebhookDelivery)).all()) == 3


def test_who_has_no_endpoint_pays_for_no_statement_more(
    sessions: sessionmaker[Session], key: NewKey, engine: Engine
) -> None:
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        submit(sessions, key.project_id)
        claim(sessions)
    finally:
        event.remove(engine, "before_cursor_execute", note)

    assert len(sent) == 2
    assert delivery_rows(sessions) == []


def test_a_sender_that_finds_no_database_goes_on_looking(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    engine: Engine,
    receiver: Receiver,
    endpoint: str,
) -> None:
    """Its connections are cut while it works."""
    del endpoint
    with closing(Courier(settings)) as courier:
        dispatcher = Dispatcher(settings, courier)
        submit(sessions, key.project_id)
        claimed = courier.claim()
        assert claimed is not None
        with engine.begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                    " AND backend_type = 'client backend'"
                )
            )
        courier.deliver(claimed)
        dispatcher.start()
        submit(sessions, key.project_id)
        receiver.wait_for(2)
        dispatcher.stop()
        dispatcher.join()

    assert receiver.ids == [row.id for row in delivery_rows(sessions)]
