"""HTTP of jobs: signatures, dependencies, one call each. The rules are in service.py."""

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Request, Response

from app import queue
from app.db import SessionDep
from app.idempotency import service as idempotency
from app.jobs import service
from app.jobs.schemas import JobCreate, JobDetail, JobSummary
from app.jobs.states import TERMINAL, Status
from app.jobs.tables import Job
from app.pages import Cursor, Limit, Page, decode_cursor, make_page
from app.problems import ProblemBody
from app.security import ProjectId

router = APIRouter(prefix="/jobs", tags=["jobs"], responses={"4XX": {"model": ProblemBody}})

POLL_SECONDS = 5

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]


async def owned_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> Job:
    return await service.get(session, project_id, job_id)


OwnedJob = Annotated[Job, Depends(owned_job)]


@router.post("", status_code=202, response_model=JobDetail)
async def create_job(
    request: Request,
    response: Response,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    spec: JobCreate,
    idempotency_key: idempotency.Key = None,
) -> dict[str, Any]:
    """Accept a job; it is durable once this has answered."""

    async def submit() -> dict[str, Any]:
        job = await service.submit(session, request.app.state.settings, project_id, spec)
        # Runs after the commit and after the answer: a slow or dead broker holds up nobody.
        background.add_task(queue.wake, request.app.state.celery)
        return JobDetail.model_validate(job).model_dump(mode="json")

    answer = await idempotency.once(session, project_id, idempotency_key, spec, submit)
    response.headers["Location"] = f"/jobs/{answer['id']}"
    response.headers["Retry-After"] = str(POLL_SECONDS)
    return answer


@router.get("", response_model=Page[JobSummary])
async def list_jobs(
    session: SessionDep,
    project_id: ProjectId,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> object:
    """The project's jobs, newest first."""
    before = decode_cursor(cursor) if cursor else None
    jobs = await service.page(session, project_id, before=before, status=status, limit=limit + 1)
    return make_page(jobs, limit, [job.id for job in jobs])


@router.get("/{job_id}", response_model=JobDetail)
async def get_job(response: Response, job: OwnedJob) -> Job:
    """One job: where it stands, and its report once it has succeeded."""
    if job.status not in TERMINAL:
        response.headers["Retry-After"] = str(POLL_SECONDS)
    return job


@router.post("/{job_id}/cancel", status_code=202, response_model=JobDetail)
async def cancel_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> Job:
    """Stop a job. A queued one is cancelled at once, a running one within some seconds."""
    return await service.cancel(session, project_id, job_id)


@router.post("/{job_id}/pause", status_code=202, response_model=JobDetail)
async def pause_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> Job:
    """Take a job out of the queue, or have its worker save its state and stop."""
    return await service.pause(session, project_id, job_id)


@router.post("/{job_id}/resume", status_code=202, response_model=JobDetail)
async def resume_job(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    job_id: JobId,
) -> Job:
    """Queue a paused job again; it goes on from where it was saved."""
    background.add_task(queue.wake, request.app.state.celery)
    return await service.resume(session, project_id, job_id)


@router.post("/{job_id}/retry", status_code=202, response_model=JobDetail)
async def retry_job(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    job_id: JobId,
) -> Job:
    """Run a failed or cancelled job again, from its last saved state if that is still there."""
    background.add_task(queue.wake, request.app.state.celery)
    return await service.retry(session, project_id, job_id)


@router.delete("/{job_id}", status_code=204)
async def delete_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> None:
    """Delete a job with all that it stored; one that runs is stopped within some seconds."""
    await service.delete(session, project_id, job_id)
