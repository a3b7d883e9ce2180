"""Statements on estimates: the API runs them with an async session, the worker with a sync one."""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Executable,
    Select,
    Update,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from app.estimates.tables import Estimate, Json, State
from app.ids import new_id
from app.jobs.tables import Job
from pst_core.spec import CompressionSpec

LEASE = timedelta(minutes=3)  # longer than a child may take
MAX_ATTEMPTS = 3
KEPT = timedelta(days=7)
MEASUREMENTS = 200  # the newest
OPEN = (State.WAITING, State.RUNNING)


def hash_spec(spec: Mapping[str, Any]) -> bytes:
    """The same for specs that are the same with all that they leave out."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).digest()


def ask(estimate_id: str, project_id: str, spec: Json) -> Executable:
    return insert(Estimate).values(
        id=estimate_id, project_id=project_id, spec=spec, spec_sha256=hash_spec(spec)
    )


def note(job: Job, measured: Json) -> Executable:
    """Have a job that has ended well estimated afterwards, beside what it took."""
    return (
        insert(Estimate)
        .values(
            id=new_id("est"),
            project_id=job.project_id,
            job_id=job.id,
            # Today's preset may be another than when it was accepted.
            spec=CompressionSpec.stored(job.spec)
            .trained_by(job.hyperparameters)
            .model_dump(mode="json"),
            spec_sha256=hash_spec(job.spec),
            measured=measured,
        )
        .on_conflict_do_nothing()
    )


@cache
def one() -> Select[Estimate]:
    """With the parameters ``project_id`` and ``estimate_id``."""
    mine = (Estimate.project_id == bindparam("project_id")) & (
        Estimate.id == bindparam("estimate_id")
    )
    return select(Estimate).where(mine).execution_options(populate_existing=True)


def open_ones(project_id: str) -> Select[int]:
    """How many of a project have been asked for and are not done."""
    return select(func.count()).where(
        Estimate.project_id == project_id, Estimate.status.in_(OPEN), Estimate.job_id.is_(None)
    )


@cache
def ready_for() -> Select[str]:
    """The newest of a project that was ready for a spec; parameters ``project_id``, ``sha256``."""
    return (
        select(Estimate.id)
        .where(
            Estimate.project_id == bindparam("project_id"),
            Estimate.spec_sha256 == bindparam("sha256"),
            Estimate.status == State.READY,
        )
        .order_by(Estimate.id.desc())
        .limit(1)
    )


def measurements(
    project_id: str | None = None,
) -> Select[str, str | None, Json, Json | None, Json | None, Json]:
    """What jobs have taken, newest first, with what had been foreseen of them.

    Args:
        project_id: Whose; None: of all, of which only rates may be told.
    """
    found = (
        select(
            Estimate.project_id,
            Estimate.job_id,
            Estimate.spec,
            Estimate.forecast,
            Estimate.measured,
            Job.hyperparameters,
        )
        .outerjoin(Job, Job.id == Estimate.job_id)
        .where(Estimate.status == State.READY, Estimate.job_id.is_not(None))
    )
    if project_id is not None:
        found = found.where(Estimate.project_id == project_id, Job.deleted_at.is_(None))
    return found.order_by(Estimate.job_id.desc()).limit(MEASUREMENTS)


def _claimable() -> ColumnElement[bool]:
    lost = (Estimate.status == State.RUNNING) & (Estimate.lease_until < func.clock_timestamp())
    return (Estimate.status == State.WAITING) | lost


def waits() -> Select[bool]:
    return select(exists(select(Estimate.id).where(_claimable())))


def claim() -> Any:  # noqa: ANN401 -- an update that returns rows has no type of its own
    """Take one: those that somebody waits for come before those of finished jobs."""
    next_one = (
        select(Estimate.id)
        .where(_claimable())
        .order_by(Estimate.job_id.is_not(None), Estimate.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return (
        update(Estimate)
        .where(Estimate.id == next_one)
        .values(
            status=State.RUNNING,
            attempt=Estimate.attempt + 1,
            lease_until=func.clock_timestamp() + LEASE,
        )
        .returning(Estimate)
    )


def _tried_by(estimate: Estimate) -> Update:
    return update(Estimate).where(
        Estimate.id == estimate.id,
        Estimate.attempt == estimate.attempt,
        Estimate.status == State.RUNNING,
    )


def finish(estimate: Estimate, forecast: Json) -> Executable:
    return _tried_by(estimate).values(
        status=State.READY,
        forecast=forecast,
        lease_until=None,
        finished_at=func.clock_timestamp(),
    )


def fail(estimate: Estimate, error: Json) -> Executable:
    return _tried_by(estimate).values(
        status=State.FAILED, error=error, lease_until=None, finished_at=func.clock_timestamp()
    )


def leave(estimate: Estimate, *, after_seconds: float) -> Executable:
    """Let another try begin so much later."""
    after = timedelta(seconds=after_seconds)
    return _tried_by(estimate).values(lease_until=func.clock_timestamp() + after)


def base_of(project_id: str, job_id: str) -> Select[str]:
    """The model that a job was made from."""
    return select(Job.spec["model"].as_string()).where(
        Job.project_id == project_id, Job.id == job_id, Job.deleted_at.is_(None)
    )


def expire() -> Delete:
    """Those that were asked for some days ago; a job's goes with it."""
    age = func.clock_timestamp() - Estimate.created_at
    return delete(Estimate).where(Estimate.job_id.is_(None), age > KEPT)
