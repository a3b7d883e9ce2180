"""How much a project may have waiting and stored. How many of its jobs run is the claim's."""

from functools import cache
from typing import TypeAlias

from sqlalchemy import BindParameter, Row, Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.tables import Artifact
from app.datasets.tables import Dataset
from app.jobs.states import Status
from app.jobs.tables import Job
from app.problems import Problem
from app.projects.tables import Project
from app.settings import Settings

Own: TypeAlias = Row[int | None, int | None]
Used: TypeAlias = tuple[int, int] | Row[int, int]

WAITING = (Status.QUEUED, Status.PAUSED)
RETRY_AFTER_SECONDS = 60
MINE: BindParameter[str] = bindparam("project_id")
GRANTED_AHEAD = 64 * 2**20  # bytes, to an upload that does not say how long it is


@cache
def limits() -> Select[int | None, int | None]:
    """A project's own quotas. Locks it: what was counted stays true until the transaction ends."""
    own = select(Project.max_queued_jobs, Project.max_stored_bytes).where(Project.id == MINE)
    # Not FOR UPDATE: other rows may still refer to it.
    return own.with_for_update(key_share=True)


@cache
def usage() -> Select[int, int]:
    """What of it counts: the jobs that wait, and the bytes of all that is stored."""
    jobs = select(func.count()).where(Job.project_id == MINE, Job.status.in_(WAITING))
    stored = select(func.coalesce(func.sum(Artifact.size), 0)).where(Artifact.project_id == MINE)
    uploaded = select(func.coalesce(func.sum(Dataset.charged_bytes), 0)).where(
        Dataset.project_id == MINE
    )
    bytes_ = stored.scalar_subquery() + uploaded.scalar_subquery()
    return select(jobs.scalar_subquery().label("jobs"), bytes_.label("stored"))


async def hold(session: AsyncSession, project_id: str) -> Own:
    """A project's own quotas. Until the transaction ends, nobody else adds to what it has."""
    return (await session.execute(limits(), {"project_id": project_id})).one()


async def admit(session: AsyncSession, settings: Settings, project_id: str, *, more: int) -> None:
    """Let a project queue a job, or refuse it.

    Args:
        session: Its transaction holds off others that are about to add to the same project.
        settings: The quotas of projects that have none of their own.
        project_id: Whose job it is.
        more: How many jobs are about to be added to those that there are already.

    Raises:
        Problem: 429, with the quota, and what to do.
    """
    own, used = await _standing(session, project_id)
    await check(session, own, used, settings, more=more)


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
    (_, own), (_, stored) = await _standing(session, project_id)
    max_bytes = settings.max_stored_bytes if own is None else own
    free = max_bytes - (int(stored) - held)
    if needed > free:
        raise _too_much_stored(int(stored) - held, max_bytes, needed)
    return min(free, needed + GRANTED_AHEAD) if held else needed


async def check(
    session: AsyncSession, own: Own, used: Used, settings: Settings, *, more: int
) -> None:
    """As `admit`, by what was read. A refusal undoes what the transaction has written.

    Jobs may be there by then, and who catches the refusal commits.
    """
    if (refusal := _refusal(own, used, settings, more)) is not None:
        await session.rollback()
        raise refusal


def _refusal(own: Own, used: Used, settings: Settings, more: int) -> Problem | None:
    max_jobs, max_bytes = own
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
    own = await hold(session, project_id)
    # A statement of its own: it sees what others committed while the first one waited.
    return own, (await session.execute(usage(), {"project_id": project_id})).one()


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
