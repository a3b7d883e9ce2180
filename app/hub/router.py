"""HTTP of the Hub's read protocol. Which job a name means is in service.py."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response

from app.artifacts.download import Download
from app.artifacts.parts import Part
from app.db import SessionDep
from app.hub import service
from app.hub.schemas import Lfs, ModelInfo, Ref, Refs, Sibling, TreeEntry
from app.hub.service import MAIN, Repo, Revision
from app.projects.tables import Scope
from app.security import ProjectId, needs

router = APIRouter(dependencies=[needs(Scope.JOBS_READ)])

# What the Hub calls our tasks.
TASKS = {
    "causal-lm": "text-generation",
    "data-to-text": "text-generation",
    "text-regression": "text-classification",
}
MODEL = "/api/models/{namespace}/{name}"
FILE = "/{namespace}/{name}/resolve/{revision}/{path:path}"


async def repo(session: SessionDep, project_id: ProjectId, namespace: str, name: str) -> Repo:
    return await service.find_repo(session, project_id, f"{namespace}/{name}")


NamedRepo = Annotated[Repo, Depends(repo)]


async def revision(request: Request, named: NamedRepo) -> Revision:
    return service.find_revision(named, request.path_params.get("revision", MAIN))


NamedRevision = Annotated[Revision, Depends(revision)]


@router.get(MODEL)
@router.get(MODEL + "/revision/{revision:path}")
async def get_model(response: Response, revision: NamedRevision) -> ModelInfo:
    """What there is to know of a checkpoint, and the names of its files."""
    response.headers.update(revision.headers)
    job = revision.repo.job
    return ModelInfo(
        id=revision.repo.name,
        modelId=revision.repo.name,
        sha=revision.commit,
        tags=["pst", str(revision.artifact.format)],
        pipeline_tag=TASKS.get(job.spec["task"], job.spec["task"]),
        library_name="transformers",
        createdAt=_time(job.created_at),
        lastModified=_time(job.finished_at or job.created_at),
        siblings=[Sibling(rfilename=file.name, size=file.size) for file in revision.files],
    )


@router.get(MODEL + "/tree/{revision}")
@router.get(MODEL + "/tree/{revision}/{path:path}")
async def get_tree(
    request: Request, response: Response, revision: NamedRevision
) -> list[TreeEntry]:
    """The files of a checkpoint; it has no folders in it."""
    path = request.path_params.get("path", "")
    if path.strip("/"):
        raise revision.no_entry(path)
    response.headers.update(revision.headers)
    return [_entry(file) for file in revision.files]


@router.post(MODEL + "/paths-info/{revision}")
async def get_paths_info(
    request: Request, response: Response, revision: NamedRevision
) -> list[TreeEntry]:
    """Those of the named files that there are."""
    response.headers.update(revision.headers)
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    return [_entry(file) for file in revision.files if file.name in form.get("paths", ())]


@router.get(MODEL + "/refs")
async def get_refs(named: NamedRepo) -> Refs:
    """The names of its revisions."""
    return Refs(
        branches=[
            Ref(name=name, ref=f"refs/heads/{name}", targetCommit=service.commit_of(artifact))
            for name, artifact in named.revisions.items()
        ]
    )


@router.head(FILE)
@router.get(FILE)
async def get_file(request: Request, revision: NamedRevision, path: str) -> Download:
    """One file of a checkpoint."""
    state = request.app.state
    file = revision.file(path)
    return Download(file, state.storage, state.contents, headers=revision.headers)


def _entry(file: Part) -> TreeEntry:
    return TreeEntry(
        path=file.name,
        size=file.size,
        oid=file.sha256[: service.COMMIT_DIGITS],
        lfs=Lfs(oid=file.sha256, size=file.size),
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
