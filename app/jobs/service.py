"""The rules of jobs as callers meet them: submit, look, act. What workers do is in worker/."""

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import new_id
from app.jobs import moves, queries
from app.jobs.changes import ChangedJobs
from app.jobs.schemas import JobCreate
from app.jobs.states import RETRY, TERMINAL, Status
from app.jobs.tables import Job
from app.problems import Problem, not_found
from app.settings import Settings
from pst_core.errors import InvalidDatasetError, ModelNotFoundError
from pst_core.references import (
    locate_dataset,
    locate_model,
    packaged_columns,
    parse_reference,
)
from pst_core.spec import CompressionSpec


async def submit(
    session: AsyncSession, settings: Settings, project_id: str, request: JobCreate
) -> Job:
    """Accept a job.

    Raises:
        PstError: A reference leads nowhere, or a packaged dataset has no such column.
    """
    check_references(request, settings)
    job_id = new_id("job")
    row = {
        "id": job_id,
        "project_id": project_id,
        "spec": request.model_dump(mode="json", exclude={"placement"}),
        **request.placement.model_dump(),
        "hyperparameters": request.resolved_hyperparameters().model_dump(mode="json"),
    }
    for statement in moves.submit(row):
        await session.execute(statement)
    # As the database has it, defaults and times included.
    return await get(session, project_id, job_id)


def check_references(spec: CompressionSpec, settings: Settings) -> None:
    """Refuse at once what cannot work; what only reading the data can tell fails the job later."""
    for text, error, field in (
        (spec.model, ModelNotFoundError, "model"),
        (spec.dataset.ref, InvalidDatasetError, "dataset.ref"),
    ):
        reference = parse_reference(text)
        if reference.scheme == "pkg" and reference.name not in settings.packages:
            raise error(
                f"{text} is not among the packages this service may use.",
                field=field,
                remedy=f"It may use: {', '.join(settings.packages)}.",
            )
    locate_model(spec.model, roots=settings.file_roots)
    locate_dataset(spec.dataset.ref, roots=settings.file_roots)
    columns = packaged_columns(spec.dataset.ref)
    for role, column in spec.columns().items():
        if columns is not None and column not in columns:
            raise InvalidDatasetError(
                f"{spec.dataset.ref} has no column {column!r}.",
                field=f"dataset.columns.{role}",
                remedy=f"Its columns are: {', '.join(columns)}.",
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


async def page(
    session: AsyncSession,
    project_id: str,
    *,
    before: str | None,
    status: Status | None,
    limit: int,
) -> list[Job]:
    query = queries.page(project_id, before=before, status=status, limit=limit)
    return list(await session.scalars(query))


async def cancel(session: AsyncSession, project_id: str, job_id: str) -> Job:
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


async def pause(session: AsyncSession, project_id: str, job_id: str) -> Job:
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


async def resume(session: AsyncSession, project_id: str, job_id: str) -> Job:
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


async def retry(session: AsyncSession, project_id: str, job_id: str) -> Job:
    """Run a failed or cancelled job again, from its last snapshot if there is one. Idempotent.

    Raises:
        Problem: 404, or 409 where the job has not ended, is being cancelled or has succeeded.
    """
    return await _act(
        session,
        (moves.retry,),
        (project_id, job_id),
        done=lambda job: job.run > 1 and job.status not in TERMINAL and not _is_ending(job),
        possible=lambda job: job.status in RETRY.sources,
        remedy="Only failed and cancelled jobs can be retried.",
    )


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
) -> Job:
    """Send the statement that fits the job's state; where none does, say why."""
    while True:
        for statement in attempts:
            changed = (await session.scalars(statement(*which))).one_or_none()
            if changed is not None:
                return changed
        job = await get(session, *which)
        if done(job):
            return job
        if not possible(job):
            raise Problem(409, "wrong_status", f"The job is {_standing(job)}.", remedy=remedy)
        # A worker moved the job between the statements: look again.


def _standing(job: Job) -> str:
    return "being cancelled" if _is_ending(job) else job.status


def _is_ending(job: Job) -> bool:
    """A cancel was accepted, and its worker has not stopped yet."""
    return job.status == Status.RUNNING and job.cancel_requested
