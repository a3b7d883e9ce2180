"""The rules of jobs as callers meet them: submit, look, cancel. What workers do is in worker/."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import new_id
from app.jobs import queries
from app.jobs.schemas import JobCreate
from app.jobs.states import TERMINAL, Status
from app.jobs.tables import Job, JobEvent, JobMetric
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
        "spec": request.model_dump(mode="json"),
        "hyperparameters": request.resolved_hyperparameters().model_dump(mode="json"),
    }
    for statement in queries.submit(row):
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
    """Cancel a queued job at once, or ask the worker of a running one to stop. Idempotent.

    Raises:
        Problem: 404, or 409 where the job has ended otherwise.
    """
    while True:
        for statement in (
            queries.cancel_queued(project_id, job_id),
            queries.request_cancel(project_id, job_id),
        ):
            changed = (await session.scalars(statement)).one_or_none()
            if changed is not None:
                return changed
        job = await get(session, project_id, job_id)
        if job.status in TERMINAL - {Status.CANCELLED}:
            raise Problem(
                409,
                "job_ended",
                f"The job has {job.status} already.",
                remedy="Only queued and running jobs can be cancelled.",
            )
        if job.status == Status.CANCELLED or job.cancel_requested:
            return job
        # Neither matched: a worker gave the job back between the two statements. Look again.


async def events(session: AsyncSession, job_id: str, *, after: int, limit: int) -> list[JobEvent]:
    return list(await session.scalars(queries.events(job_id, after=after, limit=limit)))


async def metrics(session: AsyncSession, job_id: str, *, after: int, limit: int) -> list[JobMetric]:
    return list(await session.scalars(queries.metrics(job_id, after=after, limit=limit)))
