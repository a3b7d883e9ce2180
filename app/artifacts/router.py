"""HTTP of checkpoints: the list and the archive itself. The rules are in service.py."""

import base64
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from app.artifacts import service
from app.artifacts.schemas import ArtifactList
from app.artifacts.tables import Artifact
from app.db import SessionDep
from app.jobs.router import OwnedJob
from app.problems import Problem, ProblemBody
from app.storage import LocalStorage
from pst_core.spec import Format

router = APIRouter(
    prefix="/jobs/{job_id}", tags=["artifacts"], responses={"4XX": {"model": ProblemBody}}
)


class ArchiveResponse(FileResponse):
    chunk_size = 1024 * 1024  # starlette's 64 KiB cost three times the CPU


@router.get("/artifacts", response_model=ArtifactList)
async def list_artifacts(session: SessionDep, job: OwnedJob) -> dict[str, list[Artifact]]:
    """What a job has published; nothing before it has succeeded."""
    return {"data": await service.published(session, job)}


@router.get("/logs", response_class=PlainTextResponse)
async def get_logs(request: Request, session: SessionDep, job: OwnedJob) -> StreamingResponse:
    """What the job's trainers printed, of all attempts, as text; long logs lose their middle."""
    storage: LocalStorage = request.app.state.storage
    paths = [storage.path(part.storage_key) for part in await service.logs(session, job)]
    return StreamingResponse(
        service.read_parts(paths),
        media_type="text/plain; charset=utf-8",
        headers={"X-Content-Type-Options": "nosniff"},
    )


@router.head("/checkpoint", include_in_schema=False)
@router.get("/checkpoint", response_class=ArchiveResponse)
async def get_checkpoint(
    request: Request,
    session: SessionDep,
    job: OwnedJob,
    format_name: Annotated[Format | None, Query(alias="format")] = None,
) -> ArchiveResponse:
    """A finished job's checkpoint: one tar that holds a Hugging Face folder."""
    artifact = await service.checkpoint(session, job, format_name)
    storage: LocalStorage = request.app.state.storage
    path = storage.path(artifact.storage_key)
    if not path.is_file():
        raise Problem(410, "checkpoint_gone", "The checkpoint is no longer in the storage.")
    digest = base64.b64encode(bytes.fromhex(artifact.sha256 or "")).decode()
    return ArchiveResponse(
        path,
        media_type="application/x-tar",
        filename=artifact.name,
        headers={
            "ETag": f'"{artifact.sha256}"',
            "Repr-Digest": f"sha-256=:{digest}:",
            "X-Content-Type-Options": "nosniff",
        },
    )
