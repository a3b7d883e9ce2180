"""Jobs as they are looked at and acted on; what a finished one tells is put together in report.py.

Posting one is new_job.py's, its files files.py's.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, get_args

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import TypeAdapter

from app.artifacts import logs
from app.artifacts import service as artifacts
from app.artifacts.tables import Artifact
from app.db import SessionDep
from app.jobs import service
from app.jobs.filters import Filters
from app.jobs.router import JobId, OwnedJob
from app.jobs.states import TERMINAL, Status
from app.pages import Cursor, decode_cursor, make_page
from app.problems import Problem, logger
from app.projects.tables import Scope
from app.security import ProjectId, needs
from app.storage import Storage
from app.web import curves, report, snippets
from app.web.rendering import render
from pst_core.fields import is_storable
from pst_core.spec import Method

router = APIRouter(prefix="/jobs")

READS = [needs(Scope.JOBS_READ)]
WRITES = [needs(Scope.JOBS_WRITE)]
PAGE = 25
LOG_LINES = 200
LOG_BYTES = 100_000
FILTERS = TypeAdapter(Filters)

Text = Annotated[str, Query(max_length=1024)]


async def job_filters(
    status: Text = "", method: Text = "", model: Text = "", sweep: Text = ""
) -> Mapping[str, str]:
    """Those of a request; one that is left empty, as forms send it, filters nothing.

    Raises:
        Problem: 422: there is no such status or method.
    """
    for name, value, known in (
        ("status", status, tuple(Status)),
        ("method", method, get_args(Method)),
    ):
        if value and value not in known:
            raise Problem(
                422,
                "invalid_request",
                f"{name}: there is none called so.",
                field=name,
                remedy=f"Choose one of {', '.join(known)}.",
            )
    asked = {"status": status, "method": method, "model": model, "sweep": sweep}
    return {name: value for name, value in asked.items() if value and is_storable(value)}


@router.get("", dependencies=READS)
async def list_jobs(
    request: Request,
    session: SessionDep,
    project_id: ProjectId,
    asked: Annotated[Mapping[str, str], Depends(job_filters)],
    cursor: Cursor = None,
) -> Response:
    """The project's jobs, newest first."""
    filters = FILTERS.validate_python(
        {**asked, "status": (asked["status"],) if "status" in asked else (), "metadata": {}}
    )
    scope = filters.scope(project_id)
    before = decode_cursor(cursor, scope) if cursor else None
    jobs = await service.page(session, project_id, filters, before=before, limit=PAGE + 1)
    return render(
        request,
        "jobs.html",
        jobs=make_page(jobs, PAGE, [job.id for job in jobs], scope),
        asked=asked,
        statuses=[*Status],
        methods=get_args(Method),
        is_first=before is None,
        is_live=before is None and any(job.status not in TERMINAL for job in jobs),
    )


@router.get("/{job_id}", dependencies=READS)
async def get_job(
    request: Request, session: SessionDep, project_id: ProjectId, owned: OwnedJob
) -> Response:
    """One job: where it stands, what it printed, and what came of it."""
    job = await service.show(session, project_id, owned.id)
    log = await artifacts.logs(session, owned)
    return render(
        request,
        "job.html",
        job=job,
        charts=await curves.draw(session, owned, job.result),
        report=report.summarise(job.result) if job.result else None,
        artifacts=await artifacts.published(session, owned),
        log=await _last_lines(log, request.app.state.storage),
        base=snippets.base_url(request),
        curl=snippets.post_job(snippets.base_url(request), job),
        is_live=job.status not in TERMINAL,
        moves=_moves(job.status, pausing=job.pause_requested, ending=job.cancel_requested),
    )


async def _last_lines(parts: Sequence[Artifact], storage: Storage) -> str | None:
    """Of the log; None where it cannot be read, which hides nothing else of the job."""
    try:
        return await logs.last_text(parts, storage, LOG_LINES, LOG_BYTES)
    except OSError as error:
        logger.warning("a log could not be read: %s", type(error).__name__)
        return None


def _moves(status: Status, *, pausing: bool, ending: bool) -> frozenset[str]:
    """What can be asked of a job as it stands; whether it may is decided again when it is."""
    if status in TERMINAL:
        return frozenset({"delete"} if status == Status.SUCCEEDED else {"delete", "retry"})
    if ending:
        return frozenset({"delete"})
    held = status == Status.PAUSED or pausing
    return frozenset({"cancel", "delete", "resume" if held else "pause"})


@router.post("/{job_id}/cancel", dependencies=WRITES)
async def cancel_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> Response:
    await service.cancel(session, project_id, job_id)
    return _back(job_id)


@router.post("/{job_id}/pause", dependencies=WRITES)
async def pause_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> Response:
    await service.pause(session, project_id, job_id)
    return _back(job_id)


@router.post("/{job_id}/resume", dependencies=WRITES)
async def resume_job(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    job_id: JobId,
) -> Response:
    await service.resume(session, project_id, job_id)
    background.add_task(request.app.state.waker.wake)
    return _back(job_id)


@router.post("/{job_id}/retry", dependencies=WRITES)
async def retry_job(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    job_id: JobId,
) -> Response:
    await service.retry(session, request.app.state.settings, project_id, job_id)
    background.add_task(request.app.state.waker.wake)
    return _back(job_id)


@router.post("/{job_id}/delete", dependencies=WRITES)
async def delete_job(session: SessionDep, project_id: ProjectId, job_id: JobId) -> Response:
    await service.delete(session, project_id, job_id)
    return RedirectResponse("/ui/jobs", 303)


def _back(job_id: str) -> Response:
    return RedirectResponse(f"/ui/jobs/{job_id}", 303)
