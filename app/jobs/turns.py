"""Whose turn it is: how many of each project's jobs run, and how many may.

The claim itself is a move, in moves.py.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    case,
    func,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.orm import aliased

from app.jobs.states import Status
from app.jobs.tables import Job, spelt
from app.jobs.waiting import waits
from app.projects.tables import Project
from app.sweeps.tables import Sweep

UNLIMITED = 2**31 - 1
MOST_AHEAD = 1000

# Counted once for a whole statement, not for each job that waits.
_RunningJob = aliased(Job)
_running = (
    select(_RunningJob.project_id, func.count().label("jobs"))
    .where(_RunningJob.status == spelt(Status.RUNNING))
    .group_by(_RunningJob.project_id)
    .subquery("running")
)
_NONE = literal_column("0", Integer)
RUNNING_JOBS = func.coalesce(_running.c.jobs, _NONE)
_in_sweep = (
    select(_RunningJob.sweep_id, func.count().label("jobs"))
    .where(_RunningJob.status == spelt(Status.RUNNING), _RunningJob.sweep_id.is_not(None))
    .group_by(_RunningJob.sweep_id)
    .subquery("in_sweep")
)


def startable(max_running: int) -> Select[str]:
    """The ids of jobs whose project and sweep may run one more, and that wait for no other.

    To be narrowed by ``RUNNING_JOBS`` or Job.

    Args:
        max_running: Of a project that has no quota of its own.
    """
    limit = func.coalesce(Project.max_running_jobs, max_running)
    return (
        select(Job.id)
        .join(Project, Project.id == Job.project_id)
        .outerjoin(_running, _running.c.project_id == Job.project_id)
        .outerjoin(Sweep, Sweep.id == Job.sweep_id)
        .outerjoin(_in_sweep, _in_sweep.c.sweep_id == Job.sweep_id)
        .where(
            limit > RUNNING_JOBS,
            func.coalesce(Sweep.max_parallel, UNLIMITED) > func.coalesce(_in_sweep.c.jobs, 0),
            ~waits(Job),
        )
    )


def busy(job: type[Job]) -> ColumnElement[int]:
    """How many jobs of the job's project are running."""
    running = aliased(Job)
    return (
        select(func.count())
        .where(running.project_id == job.project_id, running.status == spelt(Status.RUNNING))
        .correlate(job)
        .scalar_subquery()
    )


def queue_position(job: type[Job]) -> ColumnElement[int | None]:
    """1 for the queued job that would be claimed next, as in `moves.claim`; up to 1,000.

    One that waits for another has none, and stands in nobody's way.
    """
    other = aliased(Job, name="other")
    ahead = (
        select(other.id)
        .outerjoin(_running, _running.c.project_id == other.project_id)
        .where(
            other.status == spelt(Status.QUEUED),
            other.not_before <= func.clock_timestamp(),
            ~waits(other),
            # Jobs for other devices do not stand in its way.
            (other.device == job.device) | literal("any").in_((other.device, job.device)),
            tuple_(other.priority, busy(job), job.id)
            > tuple_(job.priority, RUNNING_JOBS, other.id),
        )
        .limit(literal_column(str(MOST_AHEAD - 1)))
        .correlate(job)
        .subquery()
    )
    # What never varies is spelt out: submission.py has this in a statement that must be short.
    position = select(func.count() + literal_column("1")).select_from(ahead).scalar_subquery()
    return case(((job.status == spelt(Status.QUEUED)) & ~waits(job), position))


def check(job: Job, max_running: int) -> tuple[Select[Any], Select[Any]]:
    """Two statements for the transaction of a claim: may project and sweep run all they now do?

    The first waits for other claims of its jobs, so that the second sees what they took.

    Args:
        job: What was claimed.
        max_running: Of a project that has no quota of its own.
    """
    project_id = job.project_id
    lock = func.pg_advisory_xact_lock(func.hashtext("running jobs"), func.hashtext(project_id))
    mine = (Job.project_id == project_id) & (Job.status == spelt(Status.RUNNING))
    running = select(func.count()).select_from(Job).where(mine).scalar_subquery()
    own = select(Project.max_running_jobs).where(Project.id == project_id).scalar_subquery()
    may_run = running <= func.coalesce(own, max_running)
    if job.sweep_id is not None:
        may_run &= _may_sweep(job.sweep_id)
    return select(lock), select(may_run)


def _may_sweep(sweep_id: str) -> ColumnElement[bool]:
    of_it = (Job.sweep_id == sweep_id) & (Job.status == spelt(Status.RUNNING))
    running = select(func.count()).select_from(Job).where(of_it).scalar_subquery()
    own = select(Sweep.max_parallel).where(Sweep.id == sweep_id).scalar_subquery()
    return running <= func.coalesce(own, UNLIMITED)
