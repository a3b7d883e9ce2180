"""HTTP of jobs: signatures, dependencies, one call each. The rules are in service.py."""

import hashlib
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from app.artifacts.conditions import is_known
from app.db import SessionDep, release
from app.idempotency import service as idempotency
from app.jobs import service
from app.jobs.filters import Filters, job_filters
from app.jobs.schemas import JobCreate, JobDetail, JobSummary, ResolvedJob
from app.jobs.states import TERMINAL
from app.jobs.tables import Job
from app.openapi import problem_answers
from app.pages import CURSOR_PROBLEMS, Cursor, Limit, Page, decode_cursor, make_page
from app.problems import Problem
from app.projects.tables import Scope
from app.security import CallerDep, ProjectId, check_again, needs
from pst_core.report import Report

router = APIRouter(prefix="/jobs", tags=["jobs"])

POLL_SECONDS = 5
IF_NONE_MATCH = "if-none-match"

READS = [needs(Scope.JOBS_READ)]
WRITES = [needs(Scope.JOBS_WRITE)]

Wait = Annotated[
    float,
    Query(
        ge=0,
        le=60,
        description="Answer only once the job changes or has ended, or after so many seconds. With "
        "`If-None-Match`, a job that has changed since is told at once.",
    ),
]

ValidateOnly = Annotated[
    bool, Query(description="Check everything, store nothing and answer what would be run.")
]
JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]


async def owned_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> Job:
    return await service.get(session, project_id, job_id)


OwnedJob = Annotated[Job, Depends(owned_job)]

WRONG_STATUS = problem_answers("wrong_status")
WRONG_REQUEST = problem_answers(
    "request_in_flight",
    "quota_exceeded",
    "idempotency_key_reused",
    "invalid_dataset",
    "model_not_found",
    "hub_disabled",
    "unsupported_model",
)


@router.post(
    "",
    status_code=202,
    response_model=JobDetail,
    responses={
        200: {"model": ResolvedJob, "description": "With `validate_only`."},
        **WRONG_REQUEST,
    },
    dependencies=WRITES,
)
async def create_job(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    spec: JobCreate,
    idempotency_key: idempotency.Key = None,
    *,
    validate_only: ValidateOnly = False,
) -> Response:
    """Accept a job; it is durable once this has answered."""
    if validate_only:
        settings = request.app.state.settings
        resolved = await service.resolve(session, settings, project_id, spec)
        return JSONResponse(resolved.model_dump(mode="json"))

    async def submit() -> dict[str, Any]:
        job = await service.submit(session, request.app.state.settings, project_id, spec)
        # Runs after the commit and after the answer: a slow or dead broker holds up nobody.
        background.add_task(request.app.state.waker.wake)
        return job.model_dump(mode="json")

    answer = await idempotency.once(session, project_id, idempotency_key, spec, submit)
    headers = {"Location": f"/jobs/{answer['id']}", "Retry-After": str(POLL_SECONDS)}
    return JSONResponse(answer, HTTPStatus.ACCEPTED, headers, background=background)


@router.get(
    "",
    response_model=Page[JobSummary],
    responses=problem_answers(*CURSOR_PROBLEMS),
    dependencies=READS,
)
async def list_jobs(
    session: SessionDep,
    project_id: ProjectId,
    filters: Annotated[Filters, Depends(job_filters)],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> object:
    """The project's jobs, newest first; `metadata.NAME=VALUE` narrows to those with that value."""
    scope = filters.scope(project_id)
    before = decode_cursor(cursor, scope) if cursor else None
    jobs = await service.page(session, project_id, filters, before=before, limit=limit + 1)
    # What an earlier release stored of a spec besides is passed over.
    shown = [JobSummary.model_validate(job, extra="ignore") for job in jobs]
    return make_page(shown, limit, [job.id for job in jobs], scope)


@router.get(
    "/{job_id}",
    response_model=JobDetail,
    responses={304: {"description": "It is as the caller's `If-None-Match` says."}},
    dependencies=READS,
)
async def get_job(
    request: Request,
    session: SessionDep,
    caller: CallerDep,
    job_id: JobId,
    wait: Wait = 0,
) -> Response:
    """One job: where it stands, and its report once it has succeeded."""
    job, version = await service.look(session, caller.project_id, job_id)
    answer = _answer(request, job)
    asked = answer.status_code == HTTPStatus.NOT_MODIFIED or not request.headers.get(IF_NONE_MATCH)
    if not wait or job.status in TERMINAL or not asked:
        return answer
    await release(session)
    await request.app.state.watch.wait(job_id, version, wait)
    await check_again(session, caller)
    return _answer(request, await service.show(session, caller.project_id, job_id))


def _answer(request: Request, job: JobDetail) -> Response:
    """The job, or that its caller has it already."""
    body = job.model_dump_json().encode()
    entity_tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": entity_tag, "Cache-Control": "private, no-cache"}
    if job.status not in TERMINAL:
        headers["Retry-After"] = str(POLL_SECONDS)
    if is_known(request.headers, entity_tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    responses=WRONG_STATUS,
    dependencies=WRITES,
)
async def cancel_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> JobDetail:
    """Stop a job. A queued one is cancelled at once, a running one within some seconds."""
    return await service.cancel(session, project_id, job_id)


@router.post(
    "/{job_id}/pause",
    status_code=202,
    responses=WRONG_STATUS,
    dependencies=WRITES,
)
async def pause_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> JobDetail:
    """Take a job out of the queue, or have its worker save its state and stop."""
    return await service.pause(session, project_id, job_id)


@router.post(
    "/{job_id}/resume",
    status_code=202,
    responses=WRONG_STATUS,
    dependencies=WRITES,
)
async def resume_job(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    job_id: JobId,
) -> JobDetail:
    """Queue a paused job again; it goes on from where it was saved."""
    background.add_task(request.app.state.waker.wake)
    return await service.resume(session, project_id, job_id)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    responses=problem_answers("wrong_status", "quota_exceeded"),
    dependencies=WRITES,
)
async def retry_job(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    job_id: JobId,
) -> JobDetail:
    """Run a failed or cancelled job again, from its last saved state if that is still there."""
    background.add_task(request.app.state.waker.wake)
    return await service.retry(session, request.app.state.settings, project_id, job_id)


@router.delete("/{job_id}", status_code=204, dependencies=WRITES)
async def delete_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> None:
    """Delete a job with all that it stored; one that runs is stopped within some seconds."""
    await service.delete(session, project_id, job_id)


@router.get(
    "/{job_id}/report",
    response_model=Report,
    responses=problem_answers("no_report"),
    dependencies=READS,
)
async def get_report(job: OwnedJob) -> object:
    """Scores against the dense model, sparsity by matrix, sizes, speed, memory, cost.

    Raises:
        Problem: 409 where the job has not succeeded.
    """
    if job.result is None:
        raise Problem(
            409,
            "no_report",
            f"The job is {job.status}: there is no report.",
            remedy="Wait until its status is succeeded; GET /jobs/{id} tells.",
        )
    return job.result
