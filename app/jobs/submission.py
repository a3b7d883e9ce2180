"""The statement that inserts a job, its first event and who is told. It is the busiest that writes.

Every other change of a job is in moves.py.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, insert, select, true
from sqlalchemy.orm import aliased

from app.jobs.changes import COLUMNS, NO_DATA, parts_of
from app.jobs.states import SUBMIT
from app.jobs.tables import Job
from app.jobs.turns import queue_position
from app.projects import quotas

Submitted = Select[Job, datetime, int | None, int, int]


def submit(job: Mapping[str, Any]) -> tuple[Submitted, Mapping[str, Any]]:
    """Insert a job, given by its columns: the statement and its parameters.

    It gives back the job as the database has it, since when it is, and its place in the queue;
    and `quotas.usage` of its project, without it.
    """
    values = {f"new_{name}": value for name, value in job.items()}
    return _insertion(tuple(job)), values | {quotas.MINE.key: job["project_id"]}


@cache
def _insertion(names: tuple[str, ...]) -> Submitted:
    # Built once for the columns that are given: to do so costs more than to run it.
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    inserted = insert(Job).values(status=SUBMIT.target, event_seq=1, **values)
    moved = inserted.returning(*COLUMNS).cte("moved")
    job = aliased(Job, moved)
    logged, *told = parts_of(moved, SUBMIT.event, NO_DATA)
    since = select(logged.c.created_at).scalar_subquery()
    used = quotas.usage().subquery()
    submitted = select(job, since, queue_position(job), used.c.jobs, used.c.stored)
    return submitted.join(used, true()).add_cte(*told)
