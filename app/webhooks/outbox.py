"""The deliveries of what happens to a job, as a part of the statement that makes it happen.

Neither is ever there without the other. Who has no endpoint pays for one look into an index.
"""

from functools import cache

from sqlalchemy import (
    CTE,
    ColumnElement,
    Text,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.webhooks.events import EventType
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint

# A UUIDv7 as the database makes it: milliseconds, twelve bits below them, chance. So ids sort as
# events happened, to a quarter of a microsecond (RFC 9562, 6.2, method 3). The clock is read once a
# statement, behind the lock of the row that it moves. Spelt out: built of parts, it would take
# longer than the rest of the statement.
NEW_ID: ColumnElement[str] = literal_column(
    "(SELECT 'msg_' || lpad(to_hex(now / 1000), 12, '0')"
    " || '7' || lpad(to_hex(now % 1000 * 4096 / 1000), 3, '0')"
    " FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) AS clock)"
    " || substr(replace(gen_random_uuid()::text, '-', ''), 17)",
    Text,
)


# Of tables, not of classes, and as far as can be spelt out: moves are built anew each time.
_ENDPOINTS = WebhookEndpoint.__table__
_RECEIVING = text(
    "webhook_endpoints.disabled_reason IS NULL AND webhook_endpoints.deleted_at IS NULL"
)
_NAMES = ("id", "project_id", "endpoint_id", "type", "data")


def deliveries(moved: CTE, event: EventType) -> CTE:
    """One delivery of each job that has moved, to each endpoint that wants to know.

    Args:
        moved: Jobs as they are now: id, project_id, status, run, attempt and event_seq.
        event: What happened to all of them.
    """
    name = literal(event.value, Text)
    wanted = _ENDPOINTS.c.events.is_(None) | (name == func.any(_ENDPOINTS.c.events))
    receivers = moved.join(_ENDPOINTS, _ENDPOINTS.c.project_id == moved.c.project_id)
    rows = (
        select(NEW_ID, moved.c.project_id, _ENDPOINTS.c.id, name, _state_of(moved.name))
        .select_from(receivers)
        .where(_RECEIVING, wanted)
    )
    return insert(WebhookDelivery).from_select(_NAMES, rows).cte("told")


@cache
def _state_of(moved: str) -> ColumnElement[object]:
    """Ids and numbers alone: what an owner wrote goes to nobody but who asks with a key."""
    names = {"job_id": "id", "seq": "event_seq"}
    pairs = ", ".join(
        f"'{name}', {moved}.{names.get(name, name)}"
        for name in ("job_id", "status", "run", "attempt", "seq")
    )
    return literal_column(f"jsonb_build_object({pairs})", JSONB)
