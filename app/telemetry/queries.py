"""Statements that count what is the same whoever asks: jobs, queue, deliveries, bytes.

Each gives rows of a name, a label and a value.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Float,
    Select,
    cast,
    func,
    literal,
    null,
    union_all,
)
from sqlalchemy import select as columns
from sqlalchemy.orm import InstrumentedAttribute

from app.artifacts.tables import Artifact
from app.datasets.tables import Dataset
from app.jobs.states import TERMINAL, Status
from app.jobs.tables import Job
from app.jobs.waiting import waits
from app.webhooks.tables import State, WebhookDelivery

LIVE = tuple(status for status in Status if status not in TERMINAL)

JOBS, QUEUE_AGE = "jobs", "queue_age"
DELIVERIES_DUE, DELIVERY_AGE = "deliveries_due", "delivery_age"
STORED_BYTES = "stored_bytes"


@cache
def live() -> CompoundSelect[Any]:
    """What partial indexes hold: it costs as much as there is to do, not as was ever done."""
    jobs = _rows(JOBS, Job.status, func.count()).where(_listed(LIVE)).group_by(Job.status)
    claimable = (
        (Job.status == Status.QUEUED)
        & (Job.not_before <= func.clock_timestamp())
        & Job.deleted_at.is_(None)
        & ~waits(Job)
    )
    age = _rows(QUEUE_AGE, Job.device, _age(func.min(Job.not_before)))
    due = (WebhookDelivery.state == State.PENDING) & (
        WebhookDelivery.next_at <= func.clock_timestamp()
    )
    oldest = _age(func.min(WebhookDelivery.next_at))
    return union_all(
        jobs,
        age.where(claimable).group_by(Job.device),
        _rows(DELIVERIES_DUE, null(), func.count()).where(due),
        _rows(DELIVERY_AGE, null(), func.coalesce(oldest, 0.0)).where(due),
    )


@cache
def kept() -> CompoundSelect[Any]:
    """What grows with all that was ever done, and so is asked for seldom."""
    ended = sorted(TERMINAL)
    jobs = _rows(JOBS, Job.status, func.count()).where(_listed(ended)).group_by(Job.status)
    stored = func.coalesce(func.sum(Artifact.size), 0)
    uploaded = func.coalesce(func.sum(Dataset.charged_bytes), 0)
    return union_all(
        jobs,
        _rows(STORED_BYTES, Artifact.kind, stored).group_by(Artifact.kind),
        _rows(STORED_BYTES, literal("dataset"), uploaded),
    )


def _rows(
    name: str, label: ColumnElement[Any] | InstrumentedAttribute[str], value: ColumnElement[Any]
) -> Select[str, str | None, float]:
    return columns(literal(name).label("name"), label.label("label"), cast(value, Float))


def _listed(statuses: Sequence[Status]) -> ColumnElement[bool]:
    return Job.status.in_(statuses) & Job.deleted_at.is_(None)


def _age(since: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.extract("epoch", func.clock_timestamp() - since)
