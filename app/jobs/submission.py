"""The statement that inserts a job, its first event and who is told. It is the busiest that writes.

Every other change of a job is in moves.py.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, insert, inspect, select
from sqlalchemy.orm import aliased

from app.jobs.changes import NO_DATA, parts_of
from app.jobs.states import SUBMIT
from app.jobs.tables import Job
from app.jobs.turns import queue_position
from app.projects import quotas

Submitted = Select[Any]

# Of each job that is inserted, beside what it is given.
_FIRST: Mapping[str, Any] = {"status": SUBMIT.target, "event_seq": 1}
# What its event, its deliveries and its place in the queue are made of.
_TOLD = frozenset(
    ["id", "project_id", "waits_for", "status", "device", "priority", "run", "attempt", "event_seq"]
)


def submit(
    job: Mapping[str, Any], quota: Mapping[str, int] | None = None
) -> tuple[Submitted, Mapping[str, Any]]:
    """Insert a job, given by its columns: the statement and its parameters.

    It gives back what `stored` makes the job of; since when it is there (``since``), its place in
    the queue (``position``), and, of a quota, `quotas.let_pass`.

    Args:
        job: The columns that are given.
        quota: `quotas.defaults`; None where the project was let have the job before.
    """
    values = {f"new_{name}": value for name, value in job.items()}
    if quota is None:
        return _insertion(tuple(job)), values
    values |= {quotas.MINE.key: job["project_id"], **quota}
    return _counted(tuple(job)), values


def stored(job: Mapping[str, Any], inserted: RowMapping) -> Job:
    """The job as the database has it: what it was given, and what the database decides."""
    decided = {name: inserted[name] for name in _decided(tuple(job))}
    return Job(**job, **_FIRST, **decided)


@cache
def _insertion(names: tuple[str, ...]) -> Submitted:
    # Built once for the columns that are given: to do so costs more than to run it. Short, too: the
    # driver parses what has more than 4,096 characters each time anew.
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    read = _TOLD.union(_decided(names))
    returned = (each.columns[0] for each in inspect(Job).column_attrs if each.key in read)
    moved = insert(Job).values(**_FIRST, **values).returning(*returned).cte("moved")
    job = aliased(Job, moved)
    logged, *told = parts_of(moved, SUBMIT.event, NO_DATA)
    since = select(logged.c.created_at).scalar_subquery()
    submitted = select(
        *(getattr(job, name) for name in _decided(names)),
        since.label("since"),
        queue_position(job).label("position"),
    )
    return submitted.add_cte(*told)


@cache
def _counted(names: tuple[str, ...]) -> Submitted:
    return _insertion(names).add_columns(quotas.let_pass().label("let_pass"))


@cache
def _decided(names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns with a default that are not given; all others are null."""
    return tuple(
        attribute.key
        for attribute in inspect(Job).column_attrs
        if attribute.columns[0].server_default is not None
        and attribute.key not in (*names, *_FIRST)
    )
