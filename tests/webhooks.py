"""Endpoints and deliveries that tests start from, and what became of them."""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_network

from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from app.ids import new_id
from app.settings import Settings
from app.webhooks import queries, signing
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint
from worker.deliveries import Courier


def allowing(settings: Settings, *ports: int, **more: object) -> Settings:
    """Settings with which webhooks may lead to loopback."""
    return settings.model_copy(
        update={
            "webhook_http": True,
            "webhook_ports": ports,
            "webhook_networks": (ip_network("127.0.0.0/8"),),
            "webhook_timeout_seconds": 20,
            **more,
        }
    )


def add_endpoint(
    sessions: sessionmaker[Session],
    settings: Settings,
    project_id: str,
    url: str,
    *,
    events: Sequence[str] | None = None,
) -> str:
    endpoint_id = new_id("whe")
    row = {
        "id": endpoint_id,
        "project_id": project_id,
        "url": url,
        "events": None if events is None else list(events),
        "key_fingerprint": signing.fingerprint(signing.installation_key(settings)),
    }
    with sessions.begin() as session:
        session.execute(queries.add(row))
    return endpoint_id


def secret_of(settings: Settings, endpoint_id: str, version: int = 1) -> str:
    return signing.secret_of(signing.installation_key(settings), endpoint_id, version)


def deliver_due(courier: Courier) -> int:
    """Make all attempts that are due, one after the other; how many there were."""
    count = 0
    while claimed := courier.claim():
        courier.deliver(claimed)
        count += 1
    return count


def let_pass(sessions: sessionmaker[Session], seconds: float) -> None:
    """As if all that the times of endpoints and deliveries say had happened so much earlier."""
    earlier = timedelta(seconds=seconds)
    with sessions.begin() as session:
        for table, names in (
            (WebhookEndpoint, ("failing_since", "rests_until", "lease_until", "deleted_at")),
            (WebhookEndpoint, ("previous_until",)),
            (WebhookDelivery, ("queued_at", "next_at", "finished_at")),
        ):
            columns = [getattr(table, name) for name in names]
            session.execute(update(table).values({each: each - earlier for each in columns}))


def endpoint_row(sessions: sessionmaker[Session], endpoint_id: str) -> WebhookEndpoint:
    with sessions() as session:
        return session.scalars(
            select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id)
        ).one()


def delivery_rows(sessions: sessionmaker[Session]) -> list[WebhookDelivery]:
    """All of them, in order."""
    with sessions() as session:
        return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))
