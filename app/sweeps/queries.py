"""Statements on sweeps and on their jobs together; what moves single jobs is in app/jobs/moves.py.

Built here and run by others: the API runs them with an async session, the worker with a sync one.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Float,
    Integer,
    Select,
    Update,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from app.jobs.moves import owned
from app.jobs.states import TERMINAL
from app.jobs.tables import Job
from app.sweeps.tables import Sweep, SweepPick

_STEP = Job.progress["step"].as_string().cast(Float)
_TOTAL = func.greatest(Job.progress["total_steps"].as_string().cast(Integer), 1)
# What has ended has nothing left to train.
FRACTION: ColumnElement[float] = case(
    (Job.status.in_(sorted(TERMINAL)), 1.0), else_=func.coalesce(_STEP / _TOTAL, 0.0)
)


def add(sweep: Mapping[str, Any]) -> Executable:
    return insert(Sweep).values(**sweep)


def one(project_id: str, sweep_id: str) -> Select[Sweep]:
    return select(Sweep).where(_owned(project_id, sweep_id))


def page(project_id: str, *, before: str | None, limit: int) -> Select[Sweep]:
    """Newest first; ids sort by age, so an id is the cursor."""
    mine = select(Sweep).where(Sweep.project_id == project_id, Sweep.deleted_at.is_(None))
    if before is not None:
        mine = mine.where(Sweep.id < before)
    return mine.order_by(Sweep.id.desc()).limit(limit)


def counts(sweep_ids: Sequence[str]) -> Select[str | None, str, int, float]:
    """Of each sweep and status of its jobs: how many, and the sum of their fractions."""
    return (
        select(Job.sweep_id, Job.status, func.count(), func.sum(FRACTION))
        .where(Job.sweep_id.in_(sweep_ids), Job.deleted_at.is_(None))
        .group_by(Job.sweep_id, Job.status)
    )


@cache
def results() -> Select[Any]:
    """All that a sweep shows of its jobs, in the order in which they are taken.

    With the parameters ``project_id`` and ``sweep_id``. Whole reports are long: it takes out of
    them what is compared.
    """

    def of(*path: str) -> ColumnElement[Any]:
        return Job.result[("outcome", *path)]

    mine = (Job.project_id == bindparam("project_id")) & (Job.sweep_id == bindparam("sweep_id"))
    return (
        select(
            Job.id,
            Job.status,
            Job.waits_for,
            Job.error,
            FRACTION.label("fraction"),
            Job.spec["method"].as_string().label("method"),
            Job.spec["sparsity"].as_float().label("sparsity"),
            Job.spec["seed"].as_integer().label("seed"),
            of("evaluation", "test").label("test"),
            of("baseline", "test").label("baseline"),
            of("difference").label("difference"),
            of("gate").label("gate"),
            of("bytes").label("bytes"),
        )
        .where(mine, Job.deleted_at.is_(None))
        .order_by(Job.id)
    )


def lock_jobs(project_id: str, sweep_id: str) -> Select[str]:
    """Nobody moves them until the transaction ends: each of what follows sees the same states."""
    of_it = owned(project_id, sweep_id, by=Job.sweep_id)
    return select(Job.id).where(of_it).order_by(Job.id).with_for_update()


def standing(project_id: str, sweep_id: str) -> Select[str, bool]:
    """Of each job its status, and whether a cancel was accepted."""
    of_it = owned(project_id, sweep_id, by=Job.sweep_id)
    return select(Job.status, Job.cancel_requested).where(of_it)


def remove(project_id: str, sweep_id: str) -> Update:
    """Hide a sweep for ever."""
    return (
        update(Sweep)
        .where(_owned(project_id, sweep_id))
        .values(deleted_at=func.clock_timestamp())
        .returning(Sweep.id)
    )


def forget() -> Executable:
    """Remove sweeps that have no jobs any more: all were deleted, with it or one by one."""
    return delete(Sweep).where(
        ~exists(select(Job.id).where(Job.sweep_id == Sweep.id)),
        ~exists(select(SweepPick.job_id).where(SweepPick.sweep_id == Sweep.id)),
    )


def picked(project_id: str, sweep_id: str) -> Select[SweepPick]:
    """What was picked of it, while that is still there."""
    there = exists(select(Job.id).where(Job.id == SweepPick.job_id, Job.deleted_at.is_(None)))
    return select(SweepPick).where(
        SweepPick.project_id == project_id, SweepPick.sweep_id == sweep_id, there
    )


def pick(
    project_id: str, sweep_id: str, job_id: str, constraints: Mapping[str, Any] | None
) -> Executable:
    """Let a sweep's name lead to a job of it that has succeeded; no row comes back where none is.

    Args:
        project_id: Whose it is.
        sweep_id: Whose name.
        job_id: What it leads to from now on.
        constraints: What was asked for.
    """
    choice: dict[str, Any] = {
        "job_id": job_id,
        "constraints": None if constraints is None else dict(constraints),
        "picked_at": func.clock_timestamp(),
    }
    insertion = upsert(SweepPick).values(project_id=project_id, sweep_id=sweep_id, **choice)
    return insertion.on_conflict_do_update(index_elements=["sweep_id"], set_=choice)


def pickable(project_id: str, sweep_id: str, job_id: str) -> Select[str]:
    """The status of a job of a sweep; locked, so that it is still there when it is picked."""
    of_it = owned(project_id, sweep_id, by=Job.sweep_id) & (Job.id == job_id)
    return select(Job.status).where(of_it).with_for_update(read=True, key_share=True)


def _owned(project_id: str, sweep_id: str) -> ColumnElement[bool]:
    return (Sweep.project_id == project_id) & (Sweep.id == sweep_id) & Sweep.deleted_at.is_(None)
