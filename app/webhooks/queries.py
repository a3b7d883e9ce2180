"""Statements on endpoints and their deliveries as their owners ask for them.

What the worker that sends says to the database stands in sending.py.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Executable, Select, case, func, insert, null, select, update

from app.webhooks.tables import State, WebhookDelivery, WebhookEndpoint

# Of an endpoint that is as good as new: another address, or switched on again.
UNTRIED: Mapping[str, Any] = {"failures": 0, "failing_since": null(), "rests_until": null()}

# What is on its way to an old address says nothing of the new one.
UNCLAIMED: Mapping[str, Any] = {"claims": WebhookEndpoint.claims + 1, "lease_until": null()}


def add(endpoint: Mapping[str, Any]) -> Executable:
    return insert(WebhookEndpoint).values(**endpoint)


def count(project_id: str) -> Select[int]:
    mine = (WebhookEndpoint.project_id == project_id) & WebhookEndpoint.deleted_at.is_(None)
    return select(func.count()).select_from(WebhookEndpoint).where(mine)


def page(project_id: str, *, after: str, limit: int) -> Select[WebhookEndpoint]:
    mine = (WebhookEndpoint.project_id == project_id) & (WebhookEndpoint.id > after)
    query = select(WebhookEndpoint).where(mine, WebhookEndpoint.deleted_at.is_(None))
    return query.order_by(WebhookEndpoint.id).limit(limit)


def one(project_id: str, endpoint_id: str) -> Select[WebhookEndpoint]:
    query = select(WebhookEndpoint).where(_owned(project_id, endpoint_id))
    # A statement of this session may just have changed what it has loaded.
    return query.execution_options(populate_existing=True)


def locked(project_id: str, endpoint_id: str) -> Select[WebhookEndpoint]:
    # Not FOR UPDATE: a move of a job that writes a delivery must not wait for it.
    return one(project_id, endpoint_id).with_for_update(key_share=True)


def change(project_id: str, endpoint_id: str, values: Mapping[str, Any]) -> Executable:
    return update(WebhookEndpoint).where(_owned(project_id, endpoint_id)).values(**values)


def rotate(
    project_id: str, endpoint_id: str, *, key_fingerprint: str, overlap: timedelta
) -> Executable:
    """The next secret; the one before goes on for a while, if it was made of the same key."""
    same_key = WebhookEndpoint.key_fingerprint == key_fingerprint
    until = case((same_key, func.statement_timestamp() + overlap), else_=null())
    values = {
        "secret_version": WebhookEndpoint.secret_version + 1,
        "previous_until": until,
        "key_fingerprint": key_fingerprint,
    }
    return change(project_id, endpoint_id, values)


def delete(project_id: str, endpoint_id: str) -> Executable:
    """Hide it, and stop what was to be sent; a sweep removes the rows."""
    changed = update(WebhookEndpoint).where(_owned(project_id, endpoint_id))
    return changed.values(deleted_at=func.clock_timestamp()).returning(WebhookEndpoint.id)


def give_up_pending(endpoint_id: str) -> Executable:
    """What an endpoint that was switched off does not get any more, unless it is replayed."""
    pending = (WebhookDelivery.endpoint_id == endpoint_id) & _is(State.PENDING)
    values = {"state": State.FAILED, "finished_at": func.clock_timestamp()}
    return update(WebhookDelivery).where(pending).values(values)


def add_ping(project_id: str, endpoint_id: str, delivery_id: str, kind: str) -> Executable:
    row = {"id": delivery_id, "project_id": project_id, "endpoint_id": endpoint_id}
    return insert(WebhookDelivery).values(
        **row, type=kind, data={"webhook_endpoint_id": endpoint_id}
    )


def deliveries(
    project_id: str, endpoint_id: str, *, state: State | None, before: str | None, limit: int
) -> Select[WebhookDelivery]:
    """Newest first."""
    query = select(WebhookDelivery).where(_of(project_id, endpoint_id))
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    if before is not None:
        query = query.where(WebhookDelivery.id < before)
    return query.order_by(WebhookDelivery.id.desc()).limit(limit)


def delivery(project_id: str, endpoint_id: str, delivery_id: str) -> Select[WebhookDelivery]:
    which = _of(project_id, endpoint_id) & (WebhookDelivery.id == delivery_id)
    return select(WebhookDelivery).where(which).execution_options(populate_existing=True)


def replay(project_id: str, endpoint_id: str, delivery_id: str) -> Executable:
    """Send it again, as if it had just happened; of one that waits, do so now."""
    which = _of(project_id, endpoint_id) & (WebhookDelivery.id == delivery_id)
    now = func.clock_timestamp()
    values = {"state": State.PENDING, "tries": 0, "queued_at": now, "next_at": now}
    return update(WebhookDelivery).where(which).values(**values, finished_at=null())


def _owned(project_id: str, endpoint_id: str) -> ColumnElement[bool]:
    mine = (WebhookEndpoint.project_id == project_id) & (WebhookEndpoint.id == endpoint_id)
    return mine & WebhookEndpoint.deleted_at.is_(None)


def _of(project_id: str, endpoint_id: str) -> ColumnElement[bool]:
    return (WebhookDelivery.project_id == project_id) & (WebhookDelivery.endpoint_id == endpoint_id)


def _is(state: State) -> ColumnElement[bool]:
    return WebhookDelivery.state == state
