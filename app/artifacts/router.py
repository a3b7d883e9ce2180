"""HTTP of checkpoints: the list, the archives and single files. The rules are in service.py."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse

from app.artifacts import logs, parts, service
from app.artifacts.download import Download
from app.artifacts.schemas import ArtifactList
from app.artifacts.tables import Artifact
from app.db import SessionDep
from app.jobs.router import OwnedJob
from app.openapi import problem_answers
from app.projects.tables import Scope
from app.security import CallerDep, needs
from app.storage import Storage
from pst_core.spec import Format

Tail = Annotated[
    int | None, Query(ge=0, le=100_000, description="Only so many lines, the last ones.")
]
Follow = Annotated[bool, Query(description="Go on with what is added, until the job has ended.")]

router = APIRouter(
    prefix="/jobs/{job_id}", tags=["artifacts"], dependencies=[needs(Scope.JOBS_READ)]
)


def downloads(media_type: str, *kinds: str) -> dict[int | str, dict[str, Any]]:
    """What a route that sends a file can answer."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": "All of it.", "content": content},
        206: {"description": "The range that was asked for.", "content": content},
        304: {"description": "`If-None-Match` names it: the client has it already."},
        **problem_answers(
            "no_such_format",
            *kinds,
            "job_not_succeeded",
            "checkpoint_gone",
            "precondition_failed",
            "range_not_satisfiable",
            "checkpoint_corrupt",
            "storage_unavailable",
        ),
    }


@router.get("/artifacts", response_model=ArtifactList)
async def list_artifacts(session: SessionDep, job: OwnedJob) -> dict[str, list[Artifact]]:
    """What a job has published; nothing before it has succeeded."""
    return {"data": await service.published(session, job)}


@router.head("/logs", include_in_schema=False)
@router.get(
    "/logs",
    response_class=PlainTextResponse,
    responses={
        206: {"description": "The range that was asked for.", "content": {"text/plain": {}}},
        304: {"description": "`If-None-Match` names it: nothing was added."},
        **problem_answers(
            "precondition_failed",
            "range_not_satisfiable",
            "too_many_streams",
            "storage_unavailable",
            "shutting_down",
        ),
    },
)
async def get_logs(
    request: Request,
    session: SessionDep,
    job: OwnedJob,
    caller: CallerDep,
    tail: Tail = None,
    *,
    follow: Follow = False,
) -> Response:
    """What the job's trainers printed, of all attempts, as text; long logs lose their middle."""
    storage: Storage = request.app.state.storage
    if follow and request.method == "GET":
        return logs.LogStream(job, caller.key_id, request.app.state.feeds, storage, tail=tail)
    return await logs.current(await service.logs(session, job), storage, tail)


@router.head("/checkpoint", include_in_schema=False)
@router.get(
    "/checkpoint",
    status_code=200,
    response_class=Response,
    responses={
        **downloads("application/x-tar"),
        307: {"description": "The storage itself sends it, from `Location`, for a while."},
    },
)
async def get_checkpoint(
    request: Request,
    session: SessionDep,
    job: OwnedJob,
    format_name: Annotated[Format | None, Query(alias="format")] = None,
) -> Download:
    """A finished job's checkpoint: one tar that holds a Hugging Face folder."""
    artifact = await service.checkpoint(session, job, format_name)
    return _download(request, parts.whole(artifact), media_type="application/x-tar")


@router.head("/artifacts/{format}/{name}", include_in_schema=False)
@router.get(
    "/artifacts/{format}/{name}",
    status_code=200,
    response_class=Response,
    responses=downloads("application/octet-stream", "no_such_file"),
)
async def get_file(
    request: Request,
    session: SessionDep,
    job: OwnedJob,
    format_name: Annotated[Format, Path(alias="format")],
    name: str,
) -> Download:
    """One file of a finished job's checkpoint, by its name in the list."""
    artifact = await service.checkpoint(session, job, format_name)
    return _download(request, service.file(artifact, name))


def _download(request: Request, part: parts.Part, *, media_type: str | None = None) -> Download:
    state = request.app.state
    return Download(part, state.storage, state.contents, media_type=media_type)
