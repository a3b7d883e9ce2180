"""How much a project may have waiting and stored. How many of its jobs run is the claim's.

Whoever is about to add to what a project has counts it under a lock, so that many at once do not
pass a quota together. Jobs that are posted far from the quota share that lock: docs/decisions tells
why that is enough.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Row,
    Select,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.tables import Artifact
from app.datasets.tables import Dataset
from app.jobs.tables import WAITING, Job
from app.problems import Problem
from app.projects.tables import Project
from app.settings import Settings
from app.sweeps import schemas as sweeps

Own: TypeAlias = Row[int | None, int | None, Any]
Used: TypeAlias = Row[int, int]

RETRY_AFTER_SECONDS = 60
MINE: BindParameter[str] = bindparam("project_id")
MAX_JOBS: BindParameter[int] = bindparam("max_queued_jobs")
MAX_BYTES: BindParameter[int] = bindparam("max_stored_bytes")
ZERO = literal_column("0", Integer)
LOCK = literal_column("hashtext('quotas')", Integer)
GRANTED_AHEAD = 64 * 2**20  # bytes, to an upload that does not say how long it is


def defaults(settings: Settings) -> Mapping[str, int]:
    """The quotas of projects that have none of their own, as parameters of `let_pass`."""
    return {
        MAX_JOBS.key: settings.max_queued_jobs,
        MAX_BYTES.key: settings.max_stored_bytes,
    }


@cache
def limits() -> Select[int | None, int | None, Any]:
    """A project's own quotas, which it locks: nobody else adds to what the project has.

    So what is counted after it stays true until the transaction ends.
    """
    own = select(Project.max_queued_jobs, Project.max_stored_bytes).where(Project.id == MINE)
    return own.add_columns(func.pg_advisory_xact_lock(LOCK, func.hashtext(Project.id)))


@cache
def usage() -> Select[int, int]:
    """What of it counts: the jobs that wait, and the bytes of all that is stored."""
    return select(*_used_by(MINE))


def _used_by(project_id: ColumnElement[str]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    jobs = select(func.count()).select_from(Job).where(Job.project_id == project_id, WAITING)
    stored = select(func.coalesce(func.sum(Artifact.size), ZERO)).where(
        Artifact.project_id == project_id
    )
    uploaded = select(func.coalesce(func.sum(Dataset.charged_bytes), ZERO)).where(
        Dataset.project_id == project_id
    )
    return jobs.scalar_subquery(), stored.scalar_subquery() + uploaded.scalar_subquery()


def let_pass() -> ColumnElement[bool | None]:
    """True where one job more is fine whatever others are adding; it locks what `limits` locks.

    The lock is shared with others that are let pass, and lasts until the transaction ends. Near a
    quota, or while somebody counts or is about to, nothing is locked and nobody let pass.
    """
    jobs, stored = _used_by(Project.id.expression)
    # What may be there by now and is not counted: a job of each connection, and one sweep.
    others = literal_column(
        f"current_setting('max_connections')::int + {sweeps.MOST_JOBS}", Integer
    )
    lock = func.pg_try_advisory_xact_lock_shared(LOCK, func.hashtext(Project.id))
    fits = select(lock).where(
        Project.id == MINE,
        func.coalesce(Project.max_queued_jobs, MAX_JOBS) > jobs + others,
        func.coalesce(Project.max_stored_bytes, MAX_BYTES) > stored,
    )
    return fits.scalar_subquery()


async def admit(session: AsyncSession, settings: Settings, project_id: str, *, more: int) -> None:
    """Let a project queue jobs, or refuse them, which undoes what the transaction has written.

    Args:
        session: Its transaction holds off others that are about to add to the same project.
        settings: The quotas of projects that have none of their own.
        project_id: Whose jobs they are.
        more: How many are about to be added to those that there are already.

    Raises:
        Problem: 429, with the quota, and what to do.
    """
    own, used = await _standing(session, project_id)
    if (refusal := _refusal(own, used, settings, more)) is not None:
        # Who catches it commits.
        await session.rollback()
        raise refusal


async def grant(
    session: AsyncSession, settings: Settings, project_id: str, *, held: int, needed: int
) -> int:
    """Let an upload grow, or refuse it; its row is to be charged with what this returns.

    Args:
        session: Its transaction holds off others that are about to add to the same project.
        settings: The quotas of projects that have none of their own.
        project_id: Whose upload it is.
        held: The bytes that it is charged with.
        needed: Those that it is to have, at the least.

    Raises:
        Problem: 429, with the quota, and what to do.
    """
    (_, own, _), (_, stored) = await _standing(session, project_id)
    max_bytes = settings.max_stored_bytes if own is None else own
    free = max_bytes - (int(stored) - held)
    if needed > free:
        raise _too_much_stored(int(stored) - held, max_bytes, needed)
    return min(free, needed + GRANTED_AHEAD) if held else needed


def _refusal(own: Own, used: Used, settings: Settings, more: int) -> Problem | None:
    max_jobs, max_bytes, _ = own
    max_jobs = settings.max_queued_jobs if max_jobs is None else max_jobs
    max_bytes = settings.max_stored_bytes if max_bytes is None else max_bytes
    jobs, stored = used
    if jobs + more > max_jobs:
        return exceeded(
            f"queued_jobs: {max_jobs} jobs of the project may wait or be paused, and as many do.",
            "Wait until some have started, or cancel some.",
        )
    return _too_much_stored(stored, max_bytes, 0) if stored >= max_bytes else None


async def _standing(session: AsyncSession, project_id: str) -> tuple[Own, Used]:
    which = {"project_id": project_id}
    own = (await session.execute(limits(), which)).one()
    # A statement of its own: it sees what others committed while the first one waited.
    return own, (await session.execute(usage(), which)).one()


def _too_much_stored(stored: int, max_bytes: int, more: int) -> Problem:
    wanted = f", and this takes {more} or more" if more else ""
    return exceeded(
        f"stored_bytes: the project stores {stored} bytes, of {max_bytes} that it may{wanted}.",
        "Delete jobs or datasets; what they stored goes within some seconds.",
    )


def exceeded(detail: str, remedy: str, *, raised_by: str = "`pst projects limit NAME`") -> Problem:
    """A refusal; the quota's name comes first in its detail."""
    return Problem(
        429,
        "quota_exceeded",
        detail,
        remedy=f"{remedy} Who runs this service can raise the quota: {raised_by}.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
