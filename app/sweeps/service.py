"""The rules of sweeps: post, look, act on all jobs at once. What is picked is in picks.py."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import new_id
from app.jobs import moves, submission
from app.jobs.changes import ChangedJobs
from app.jobs.references import check
from app.jobs.schemas import JobCreate
from app.jobs.service import row_of
from app.jobs.states import TERMINAL, Status
from app.jobs.tables import Job
from app.problems import Problem, not_found
from app.projects import quotas
from app.settings import Settings
from app.sweeps import queries
from app.sweeps.grid import Group, groups
from app.sweeps.schemas import SweepCreate, SweepDetail, SweepJob, SweepPickOut, SweepSummary
from app.sweeps.states import derive
from app.sweeps.tables import Sweep
from pst_core.errors import PstError
from pst_core.report import Scores


@dataclass(frozen=True, slots=True)
class Result:
    """A job of a sweep as it is shown, and what its yardstick scored."""

    job: SweepJob
    baseline: float | None


async def submit(
    session: AsyncSession, settings: Settings, project_id: str, request: SweepCreate
) -> SweepDetail:
    """Accept a sweep and all its jobs, or nothing of it.

    Raises:
        PstError: A reference of the spec leads nowhere.
        Problem: 422 where a combination makes no job; 429 where the project may not have as many.
    """
    found = groups(request)
    try:
        # What they refer to is the same for all of them.
        await check(session, settings, project_id, _unlinked(found[0]))
    except PstError as error:
        error.field = error.field and f"spec.{error.field}"
        raise
    await quotas.admit(session, settings, project_id, more=sum(map(len, found)))
    sweep_id = new_id("swp")
    row = {
        "id": sweep_id,
        "project_id": project_id,
        "request": request.model_dump(mode="json"),
        "metric": _unlinked(found[0]).metric,
        "metadata_": request.metadata,
        "max_parallel": request.max_parallel,
    }
    await session.execute(queries.add(row))
    for job in _rows(found, project_id, sweep_id):
        await session.execute(*submission.submit(job))
    return await show(session, project_id, sweep_id)


def _unlinked(group: Group) -> JobCreate:
    return group.dense or group.jobs[0]


def _rows(found: Sequence[Group], project_id: str, sweep_id: str) -> Iterable[dict[str, Any]]:
    """The jobs' columns; the yardsticks first, since ids sort by age and the oldest is taken."""

    def row(job: JobCreate) -> dict[str, Any]:
        return row_of(project_id, job, sweep_id=sweep_id)

    baselines = [None if group.dense is None else row(group.dense) for group in found]
    yield from filter(None, baselines)
    for group, baseline in zip(found, baselines, strict=True):
        update = {"baseline": baseline["id"]} if baseline else {}
        yield from (row(job.model_copy(update=update)) for job in group.jobs)


async def get(session: AsyncSession, project_id: str, sweep_id: str) -> Sweep:
    """One sweep of a project.

    Raises:
        Problem: 404, the same for another project's sweep and for none at all.
    """
    sweep = await session.scalar(queries.one(project_id, sweep_id))
    if sweep is None:
        raise not_found("sweep")
    return sweep


async def show(session: AsyncSession, project_id: str, sweep_id: str) -> SweepDetail:
    """One sweep with what came of its jobs so far.

    Raises:
        Problem: 404, as for `get`.
    """
    sweep = await get(session, project_id, sweep_id)
    jobs = [result.job for result in await results(session, project_id, sweep_id)]
    picked = await session.scalar(queries.picked(project_id, sweep_id))
    summary = _summary(sweep, Counter(job.status for job in jobs), sum(j.fraction for j in jobs))
    return SweepDetail(
        **dict(summary),
        request=SweepCreate.model_validate(sweep.request),
        pick=SweepPickOut.model_validate(picked) if picked else None,
        jobs=jobs,
    )


async def results(session: AsyncSession, project_id: str, sweep_id: str) -> list[Result]:
    """What came of each job of a sweep, in the order in which they are taken."""
    which = {"project_id": project_id, "sweep_id": sweep_id}
    return [_result(row) for row in await session.execute(queries.results(), which)]


def _result(row: Row[Any]) -> Result:
    shown = row._asdict()
    test, baseline = (
        found and Scores.model_validate(found)
        for found in (shown.pop("test"), shown.pop("baseline"))
    )
    job = SweepJob.model_validate({**shown, "metric": test.estimate if test else None})
    return Result(job, baseline.value if baseline else None)


async def page(
    session: AsyncSession, project_id: str, *, before: str | None, limit: int
) -> list[SweepSummary]:
    sweeps = list(await session.scalars(queries.page(project_id, before=before, limit=limit)))
    counted = list(await session.execute(queries.counts([sweep.id for sweep in sweeps])))
    return [_summarised(sweep, [row for row in counted if row[0] == sweep.id]) for sweep in sweeps]


def _summarised(sweep: Sweep, counted: Sequence[Row[str | None, str, int, float]]) -> SweepSummary:
    counts = {Status(status): count for _, status, count, _ in counted}
    return _summary(sweep, counts, sum(done for *_, done in counted))


def _summary(sweep: Sweep, counts: dict[Status, int], done: float) -> SweepSummary:
    return SweepSummary(
        id=sweep.id,
        status=derive(counts),
        counts=counts,
        fraction=done / max(sum(counts.values()), 1),
        metric=sweep.metric,
        max_parallel=sweep.max_parallel,
        metadata_=sweep.metadata_,
        created_at=sweep.created_at,
    )


async def cancel(session: AsyncSession, project_id: str, sweep_id: str) -> SweepDetail:
    """Cancel all its jobs that have not ended. Idempotent.

    Raises:
        Problem: 404, or 409 where all have ended and none because that was asked.
    """
    return await _act(
        session,
        (moves.cancel_waiting, moves.request_cancel),
        (project_id, sweep_id),
        possible=lambda status, _: status not in TERMINAL or status == Status.CANCELLED,
        remedy="Only a sweep with queued, running or paused jobs can be cancelled.",
    )


async def pause(session: AsyncSession, project_id: str, sweep_id: str) -> SweepDetail:
    """Pause all its jobs that have not ended. Idempotent.

    Raises:
        Problem: 404, or 409 where all have ended or are being cancelled.
    """
    return await _act(
        session,
        (moves.pause_queued, moves.request_pause),
        (project_id, sweep_id),
        possible=_goes_on,
        remedy="Only a sweep with queued or running jobs can be paused.",
    )


async def resume(session: AsyncSession, project_id: str, sweep_id: str) -> SweepDetail:
    """Let all its paused jobs go on. Idempotent.

    Raises:
        Problem: 404, or 409 where all have ended or are being cancelled.
    """
    return await _act(
        session,
        (moves.resume, moves.withdraw_pause),
        (project_id, sweep_id),
        possible=_goes_on,
        remedy="Only a sweep with paused jobs can be resumed; single jobs can be retried.",
    )


async def delete(session: AsyncSession, project_id: str, sweep_id: str) -> None:
    """Hide a sweep and all its jobs at once; what runs is stopped, what is stored removed.

    Raises:
        Problem: 404; also where it was deleted before.
    """
    if (await session.execute(queries.remove(project_id, sweep_id))).one_or_none() is None:
        raise not_found("sweep")
    await session.execute(queries.lock_jobs(project_id, sweep_id))
    await session.scalars(moves.delete(project_id, sweep_id, Job.sweep_id))
    await session.scalars(moves.cancel_deleted(sweep_id, Job.sweep_id))


async def _act(
    session: AsyncSession,
    statements: Sequence[Callable[[str, str, moves.Column], ChangedJobs]],
    which: tuple[str, str],
    *,
    possible: Callable[[str, bool], bool],
    remedy: str,
) -> SweepDetail:
    """Send each job of a sweep the statement that fits its state, all in one transaction."""
    sweep = await get(session, *which)
    # No worker moves one from a state in which the first does not fit to one where the second
    # does not.
    await session.execute(queries.lock_jobs(*which))
    standing = list(await session.execute(queries.standing(*which)))
    if not any(possible(status, ending) for status, ending in standing):
        counts = ", ".join(sorted({status for status, _ in standing})) or "deleted"
        raise Problem(409, "wrong_status", f"The jobs of {sweep.id} are: {counts}.", remedy=remedy)
    for statement in statements:
        await session.scalars(statement(*which, Job.sweep_id))
    return await show(session, *which)


def _goes_on(status: str, ending: bool) -> bool:
    return status not in TERMINAL and not ending
