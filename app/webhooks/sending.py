"""What a worker that sends says to the database: one at a time an endpoint, whoever asks.

Built here and run there. Times are the database's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Executable,
    Interval,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.webhooks.tables import RECEIVING, Disabled, State, WebhookDelivery, WebhookEndpoint

BATCH = 1000
MOST_LOGGED = 30  # attempts of a delivery
MOST_OF_A_PROJECT = 2  # of its endpoints are sent to at once by all workers, or about as many
FEWEST_FAILURES = 10  # in a row: an endpoint that is asked once a week is not switched off for one
# Longer than any statement takes: none still refers to the endpoint then.
DELETED_SECONDS = 3600.0

NOW = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class Failure:
    """What follows of an attempt that failed.

    Args:
        wait: Seconds until this delivery is tried again.
        rest: Seconds until anything is sent to the endpoint again.
        gone: Whether the endpoint said that it wants nothing more.
        give_up: Seconds for which a delivery is tried.
        disable: Seconds after which an endpoint that takes nothing is switched off.
    """

    wait: float
    rest: float
    gone: bool
    give_up: float
    disable: float


@cache
def claim_endpoint() -> Executable:
    """Take an endpoint that something waits for: of those, who was not served for longest.

    With the parameters ``lease`` (a timedelta) and ``failing``: whether it may be one that has not
    taken the last delivery.
    """
    other = aliased(WebhookEndpoint)
    busy = (
        select(func.count())
        .where(other.project_id == WebhookEndpoint.project_id, other.lease_until > NOW)
        .correlate(WebhookEndpoint)
        .scalar_subquery()
    )
    waits = exists(
        select(WebhookDelivery.id)
        .where(
            _pending(WebhookDelivery.endpoint_id == WebhookEndpoint.id),
            WebhookDelivery.next_at <= NOW,
        )
        .correlate(WebhookEndpoint)
    )
    candidate = (
        select(WebhookEndpoint.id)
        .where(
            RECEIVING,
            _over(WebhookEndpoint.lease_until),
            _over(WebhookEndpoint.rests_until),
            bindparam("failing", type_=Boolean) | (WebhookEndpoint.failures == 0),
            busy < MOST_OF_A_PROJECT,
            waits,
        )
        .order_by(WebhookEndpoint.failures > 0, WebhookEndpoint.claimed_at.nulls_first())
        .limit(1)
        # Not FOR UPDATE: a move of a job that writes a delivery must not wait for it.
        .with_for_update(key_share=True, skip_locked=True)
    )
    claimed = update(WebhookEndpoint).where(WebhookEndpoint.id == candidate.scalar_subquery())
    return claimed.values(
        claims=WebhookEndpoint.claims + 1,
        claimed_at=NOW,
        lease_until=NOW + bindparam("lease", type_=Interval),
    ).returning(
        WebhookEndpoint.id,
        WebhookEndpoint.claims,
        WebhookEndpoint.url,
        WebhookEndpoint.failures,
        WebhookEndpoint.key_fingerprint,
        WebhookEndpoint.secret_version,
        (WebhookEndpoint.previous_until > NOW).label("previous_signs"),
    )


def claim_delivery(endpoint_id: str, lease: timedelta) -> Executable:
    """Take the oldest of an endpoint's deliveries that are due.

    Should whoever took it vanish, it is due again when the lease is over.
    """
    oldest = (
        select(WebhookDelivery.id)
        .where(_pending(WebhookDelivery.endpoint_id == endpoint_id), WebhookDelivery.next_at <= NOW)
        .order_by(WebhookDelivery.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    claimed = update(WebhookDelivery).where(WebhookDelivery.id == oldest.scalar_subquery())
    return claimed.values(
        attempts=WebhookDelivery.attempts + 1,
        tries=WebhookDelivery.tries + 1,
        next_at=NOW + lease,
    ).returning(
        WebhookDelivery.id,
        WebhookDelivery.type,
        WebhookDelivery.data,
        WebhookDelivery.created_at,
        WebhookDelivery.attempts,
        WebhookDelivery.tries,
        NOW.label("now"),
    )


def delivered(delivery_id: str, attempt: int, entry: Mapping[str, Any]) -> Executable:
    """It was taken; whatever became of the delivery meanwhile, unless it was attempted again."""
    return (
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.attempts == attempt)
        .values(state=State.DELIVERED, finished_at=NOW, log=_logged(entry))
    )


def not_delivered(
    delivery_id: str, attempt: int, entry: Mapping[str, Any], failure: Failure
) -> Executable:
    """It is tried again, or given up where that would be too late."""
    too_late = WebhookDelivery.queued_at + timedelta(seconds=failure.give_up) < NOW + timedelta(
        seconds=failure.wait
    )
    return (
        update(WebhookDelivery)
        .where(
            WebhookDelivery.id == delivery_id,
            WebhookDelivery.attempts == attempt,
            WebhookDelivery.state == State.PENDING,
        )
        .values(
            state=case((too_late, State.FAILED.value), else_=State.PENDING.value),
            finished_at=case((too_late, NOW), else_=null()),
            next_at=NOW + timedelta(seconds=failure.wait),
            log=_logged(entry),
        )
    )


def release(endpoint_id: str, claim: int, failure: Failure | None) -> Executable:
    """Let others send to an endpoint, after what this attempt told of it."""
    held = (WebhookEndpoint.id == endpoint_id) & (WebhookEndpoint.claims == claim)
    released = update(WebhookEndpoint).where(held).returning(WebhookEndpoint.disabled_reason)
    values: dict[str, Any] = {"lease_until": null()}
    if failure is None:
        return released.values(values | {"failures": 0, "failing_since": null()})
    since = func.coalesce(WebhookEndpoint.failing_since, NOW)
    failures = WebhookEndpoint.failures + 1
    failing = (since < NOW - timedelta(seconds=failure.disable)) & (failures >= FEWEST_FAILURES)
    reasons = case((failing, Disabled.FAILING.value), else_=WebhookEndpoint.disabled_reason)
    return released.values(
        values
        | {
            "failures": failures,
            "failing_since": since,
            "rests_until": NOW + timedelta(seconds=failure.rest),
            "disabled_reason": Disabled.GONE.value if failure.gone else reasons,
        }
    )


def let_go(endpoint_id: str, claim: int) -> Executable:
    """Let others send to an endpoint that nothing was found for."""
    held = (WebhookEndpoint.id == endpoint_id) & (WebhookEndpoint.claims == claim)
    return update(WebhookEndpoint).where(held).values(lease_until=null())


def tidy(*, keep: float, give_up: float) -> Sequence[Executable]:
    """What a sweep does: give up what is too old, remove what was kept long enough.

    Args:
        keep: Seconds for which a delivery is listed that is over.
        give_up: Seconds for which one is tried.
    """
    stale = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.state == State.PENDING,
            WebhookDelivery.queued_at < NOW - timedelta(seconds=give_up),
            WebhookDelivery.next_at <= NOW,
        )
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    ended = WebhookDelivery.finished_at < NOW - timedelta(seconds=keep)
    deleted = select(WebhookEndpoint.id).where(WebhookEndpoint.deleted_at.is_not(None))
    orphaned = WebhookDelivery.endpoint_id.in_(deleted)
    long_ago = WebhookEndpoint.deleted_at < NOW - timedelta(seconds=DELETED_SECONDS)
    has_some = exists(
        select(WebhookDelivery.id).where(WebhookDelivery.endpoint_id == WebhookEndpoint.id)
    )
    return (
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(stale))
        .values(state=State.FAILED, finished_at=NOW),
        _remove(ended),
        _remove(orphaned),
        delete(WebhookEndpoint).where(long_ago, ~has_some),
    )


def _remove(which: ColumnElement[bool]) -> Executable:
    some = select(WebhookDelivery.id).where(which).limit(BATCH).with_for_update(skip_locked=True)
    return delete(WebhookDelivery).where(WebhookDelivery.id.in_(some))


def _pending(which: ColumnElement[bool]) -> ColumnElement[bool]:
    return which & (WebhookDelivery.state == State.PENDING)


def _over(time: InstrumentedAttribute[datetime | None]) -> ColumnElement[bool]:
    return or_(time.is_(None), time <= NOW)


def _logged(entry: Mapping[str, Any]) -> ColumnElement[Any]:
    """The delivery's log with another attempt; the oldest one goes when there are too many."""
    log = WebhookDelivery.log.op("||")(literal([dict(entry)], JSONB))
    last: ColumnElement[str] = literal_column(f"'$[last-{MOST_LOGGED - 1} to last]'")
    return func.jsonb_path_query_array(log, last)
