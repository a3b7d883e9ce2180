"""Whose turn it is: how many of each project's jobs run, and how many may.

The claim itself is a move, in moves.py.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import aliased

from app.jobs.states import Status
from app.jobs.tables import Job
from app.projects.tables import Project

UNLIMITED = 2**31 - 1

# Counted once for a whole claim, not for each job that waits.
_RunningJob = aliased(Job)
_running = (
    select(_RunningJob.project_id, func.count().label("jobs"))
    .where(_RunningJob.status == Status.RUNNING)
    .group_by(_RunningJob.project_id)
    .subquery("running")
)
RUNNING_JOBS = func.coalesce(_running.c.jobs, 0)


def startable(max_running: int) -> Select[str]:
    """The ids of jobs whose project may run one more, to be narrowed by ``RUNNING_JOBS`` or Job.

    Args:
        max_running: Of a project that has no quota of its own.
    """
    limit = func.coalesce(Project.max_running_jobs, max_running)
    return (
        select(Job.id)
        .join(Project, Project.id == Job.project_id)
        .outerjoin(_running, _running.c.project_id == Job.project_id)
        .where(limit > RUNNING_JOBS)
    )


def busy(job: type[Job]) -> ColumnElement[int]:
    """How many jobs of the job's project are running."""
    running = aliased(Job)
    return (
        select(func.count())
        .where(running.project_id == job.project_id, running.status == Status.RUNNING)
        .correlate(job)
        .scalar_subquery()
    )


def check(project_id: str, max_running: int) -> tuple[Select[Any], Select[Any]]:
    """Two statements for the transaction of a claim: may the project run all that it now does?

    The first waits for other claims of its jobs, so that the second sees what they took.
    """
    lock = func.pg_advisory_xact_lock(func.hashtext("running jobs"), func.hashtext(project_id))
    mine = (Job.project_id == project_id) & (Job.status == Status.RUNNING)
    running = select(func.count()).select_from(Job).where(mine).scalar_subquery()
    own = select(Project.max_running_jobs).where(Project.id == project_id).scalar_subquery()
    return select(lock), select(running <= func.coalesce(own, max_running))
