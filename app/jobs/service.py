"""The rules of jobs as callers meet them: submit, look, act. What workers do is in worker/."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import references as uploads
from app.estimates import queries as estimates
from app.ids import new_id
from app.jobs import moves, queries, submission
from app.jobs.changes import ChangedJobs
from app.jobs.filters import Filters
from app.jobs.phases import Change, phases, requeue
from app.jobs.references import check
from app.jobs.schemas import JobCreate, JobDetail, ResolvedJob
from app.jobs.states import RETRY, TERMINAL, Status
from app.jobs.tables import Job
from app.problems import Problem, not_found
from app.projects import quotas
from app.settings import Settings
from pst_core.spec import CompressionSpec

NO_SPEC = {"placement", "metadata"}  # of a request: what is not the trainer's


async def submit(
    session: AsyncSession, settings: Settings, project_id: str, request: JobCreate
) -> JobDetail:
    """Accept a job.

    Raises:
        PstError: A reference leads nowhere, or a packaged dataset has no such column.
        Problem: 429 where the project has as much as it may have.
    """
    await check(session, settings, project_id, request)
    row = row_of(project_id, request)
    insertion = submission.submit(row, quotas.defaults(settings))
    submitted = (await session.execute(*insertion)).mappings().one()
    if not submitted["let_pass"]:
        # It is there by now, and counts.
        await quotas.admit(session, settings, project_id, more=0)
    job = submission.stored(row, submitted)
    return _detail(job, [Change.of_submitted(submitted["since"])], submitted["position"])


def row_of(project_id: str, request: JobCreate, *, sweep_id: str | None = None) -> dict[str, Any]:
    """The columns of a job that is to be inserted."""
    return {
        "id": new_id("job"),
        "project_id": project_id,
        "spec": request.model_dump(mode="json", exclude=NO_SPEC),
        **request.placement.model_dump(),
        "metadata_": request.metadata,
        "dataset_id": uploads.named_by(request),
        "hyperparameters": request.resolved_hyperparameters().model_dump(mode="json"),
        "sweep_id": sweep_id,
        "waits_for": request.baseline_job,
    }


async def resolve(
    session: AsyncSession, settings: Settings, project_id: str, request: JobCreate
) -> ResolvedJob:
    """What a job would be: its spec with all that it leaves out.

    Raises:
        PstError: As for `submit`.
    """
    await check(session, settings, project_id, request)
    spec = request.model_dump(mode="json", exclude=NO_SPEC)
    which = {"project_id": project_id, "sha256": estimates.hash_spec(spec)}
    ready = await session.scalar(estimates.ready_for(), which)
    return ResolvedJob(
        spec=CompressionSpec.model_validate(request.model_dump(exclude=NO_SPEC)),
        hyperparameters=request.resolved_hyperparameters(),
        placement=request.placement,
        metadata=request.metadata,
        estimate=ready and f"/estimates/{ready}",
    )


async def get(session: AsyncSession, project_id: str, job_id: str) -> Job:
    """One job of a project.

    Raises:
        Problem: 404, the same for another project's job and for none at all.
    """
    job = await session.scalar(queries.one(project_id, job_id))
    if job is None:
        raise not_found("job")
    return job


async def show(session: AsyncSession, project_id: str, job_id: str) -> JobDetail:
    """One job as its owner sees it.

    Raises:
        Problem: 404, as for `get`.
    """
    return (await look(session, project_id, job_id))[0]


async def look(
    session: AsyncSession, project_id: str, job_id: str
) -> tuple[JobDetail, queries.Version]:
    """One job as its owner sees it, and what tells whether it has changed, by one statement.

    Raises:
        Problem: 404, as for `get`.
    """
    which = {"project_id": project_id, "job_id": job_id}
    row = (await session.execute(queries.shown(), which)).one_or_none()
    if row is None:
        raise not_found("job")
    job, changes, position = row
    told = [Change.model_validate(change) for change in changes or ()]
    return _detail(job, told, position), job.version


def _detail(job: Job, changes: Sequence[Change], position: int | None) -> JobDetail:
    shown = {
        "phases": phases(changes),
        "queue_position": position,
        "requeue": requeue(changes, job.not_before),
    }
    return JobDetail.model_validate(job, extra="ignore").model_copy(update=shown)


async def page(
    session: AsyncSession,
    project_id: str,
    filters: Filters,
    *,
    before: str | None,
    limit: int,
) -> list[Job]:
    query = queries.page(project_id, filters, before=before, limit=limit)
    return list(await session.scalars(query))


async def cancel(session: AsyncSession, project_id: str, job_id: str) -> JobDetail:
    """Cancel a waiting job at once, or ask the worker of a running one to stop. Idempotent.

    Raises:
        Problem: 404, or 409 where the job has ended otherwise.
    """
    return await _act(
        session,
        (moves.cancel_waiting, moves.request_cancel),
        (project_id, job_id),
        done=lambda job: job.status == Status.CANCELLED or _is_ending(job),
        possible=lambda job: job.status not in TERMINAL,
        remedy="Only queued, running and paused jobs can be cancelled.",
    )


async def pause(session: AsyncSession, project_id: str, job_id: str) -> JobDetail:
    """Take a queued job out of the queue, or ask the worker of a running one to save it and stop.

    Raises:
        Problem: 404, or 409 where the job has ended or is being cancelled.
    """
    return await _act(
        session,
        (moves.pause_queued, moves.request_pause),
        (project_id, job_id),
        done=lambda job: (
            job.status == Status.PAUSED or (job.pause_requested and not _is_ending(job))
        ),
        possible=lambda job: job.status not in TERMINAL and not _is_ending(job),
        remedy="Only queued and running jobs can be paused.",
    )


async def resume(session: AsyncSession, project_id: str, job_id: str) -> JobDetail:
    """Queue a paused job, or let one run on that was about to be paused. Idempotent.

    Raises:
        Problem: 404, or 409 where the job has ended or is being cancelled.
    """
    return await _act(
        session,
        (moves.resume, moves.withdraw_pause),
        (project_id, job_id),
        done=lambda job: (
            job.status == Status.QUEUED
            or (job.status == Status.RUNNING and not job.pause_requested and not _is_ending(job))
        ),
        possible=lambda job: job.status not in TERMINAL and not _is_ending(job),
        remedy="Only paused jobs can be resumed; a failed or cancelled one can be retried.",
    )


async def retry(
    session: AsyncSession, settings: Settings, project_id: str, job_id: str
) -> JobDetail:
    """Run a failed or cancelled job again, from its last snapshot if there is one. Idempotent.

    Raises:
        Problem: 404, 409 where the job has not ended, is being cancelled or has succeeded, or 429
            where the project has as much as it may have.
    """
    job = await _act(
        session,
        (moves.retry,),
        (project_id, job_id),
        done=lambda job: job.run > 1 and job.status not in TERMINAL and not _is_ending(job),
        possible=lambda job: job.status in RETRY.sources,
        remedy="Only failed and cancelled jobs can be retried.",
    )
    # It waits by now, and counts.
    await quotas.admit(session, settings, project_id, more=0)
    return job


async def delete(session: AsyncSession, project_id: str, job_id: str) -> None:
    """Hide a job at once; it is stopped, and what it stored removed, within some seconds.

    Raises:
        Problem: 404; also where it was deleted before.
    """
    if (await session.scalars(moves.delete(project_id, job_id))).one_or_none() is None:
        raise not_found("job")
    await session.scalars(moves.cancel_deleted(job_id))


async def _act(
    session: AsyncSession,
    attempts: Sequence[Callable[[str, str], ChangedJobs]],
    which: tuple[str, str],
    *,
    done: Callable[[Job], bool],
    possible: Callable[[Job], bool],
    remedy: str,
) -> JobDetail:
    """Send the statement that fits the job's state; where none does, say why."""
    while True:
        for statement in attempts:
            changed = (await session.scalars(statement(*which))).one_or_none()
            if changed is not None:
                return await show(session, *which)
        job = await get(session, *which)
        if done(job):
            return await show(session, *which)
        if not possible(job):
            raise Problem(409, "wrong_status", f"The job is {_standing(job)}.", remedy=remedy)
        # A worker moved the job between the statements: look again.


def _standing(job: Job) -> str:
    return "being cancelled" if _is_ending(job) else job.status


def _is_ending(job: Job) -> bool:
    """A cancel was accepted, and its worker has not stopped yet."""
    return job.status == Status.RUNNING and job.cancel_requested
