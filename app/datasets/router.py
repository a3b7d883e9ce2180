"""HTTP of datasets: signatures, dependencies, one call each. The rules are in service.py."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Path, Query, Request, Response

from app import queue
from app.datasets import service
from app.datasets.offers import MEDIA_TYPES, read_offer
from app.datasets.schemas import DatasetDetail, DatasetSummary
from app.datasets.tables import Dataset
from app.datasets.uploads import Upload
from app.db import SessionDep
from app.openapi import problem_answers
from app.pages import CURSOR_PROBLEMS, Cursor, Limit, Page, decode_cursor, make_page
from app.projects.tables import Scope
from app.security import ProjectId, needs

router = APIRouter(prefix="/datasets", tags=["datasets"])

POLL_SECONDS = 2

READS = [needs(Scope.JOBS_READ)]
WRITES = [needs(Scope.DATASETS_WRITE)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

DatasetId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Name = Annotated[str, Query(pattern=NAME, description="What it is called; several may be.")]
OfName = Annotated[str | None, Query(pattern=NAME, description="Only those called so.")]
Digest = Annotated[
    str | None,
    Header(
        description="`sha-256=:BASE64:` of the body as it is sent (RFC 9530): another body is "
        "refused."
    ),
]

FILE = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": dict.fromkeys(MEDIA_TYPES, FILE)}
}
REFUSED = problem_answers(
    "bad_request",
    "upload_given_up",
    "digest_mismatch",
    "invalid_dataset",
    "quota_exceeded",
    "storage_unavailable",
)


async def offered(
    request: Request,
    project_id: ProjectId,
    name: Name,
    content_digest: Digest = None,
    repr_digest: Digest = None,
) -> Upload:
    state = request.app.state
    digests = {"Content-Digest": content_digest, "Repr-Digest": repr_digest}
    return Upload(
        sessions=state.sessions.writing,
        settings=state.settings,
        storage=state.storage,
        project_id=project_id,
        offer=read_offer(name, request.headers, digests),
    )


@router.post(
    "",
    status_code=202,
    response_model=DatasetDetail,
    responses={
        200: {"model": DatasetDetail, "description": "The project has this file by this name."},
        **REFUSED,
    },
    openapi_extra=BODY,
    dependencies=WRITES,
)
async def upload_dataset(
    request: Request,
    response: Response,
    background: BackgroundTasks,
    session: SessionDep,
    upload: Annotated[Upload, Depends(offered)],
) -> Dataset:
    """Upload a file of rows: CSV, TSV, JSON lines or Parquet; the first three also as gzip."""
    dataset, is_new = await service.upload(session, upload, request.stream())
    response.headers["Location"] = f"/datasets/{dataset.id}"
    if is_new:
        response.headers["Retry-After"] = str(POLL_SECONDS)
        background.add_task(queue.wake_chores, request.app.state.celery)
    else:
        response.status_code = HTTPStatus.OK
    return dataset


@router.get(
    "",
    response_model=Page[DatasetSummary],
    responses=problem_answers(*CURSOR_PROBLEMS),
    dependencies=READS,
)
async def list_datasets(
    session: SessionDep,
    project_id: ProjectId,
    name: OfName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> object:
    """The project's datasets, newest first; of one name, its versions."""
    scope = f"{project_id} datasets {name}"
    before = decode_cursor(cursor, scope) if cursor else None
    datasets = await service.page(session, project_id, name, before=before, limit=limit + 1)
    return make_page(datasets, limit, [dataset.id for dataset in datasets], scope)


@router.get("/{dataset_id}", response_model=DatasetDetail, dependencies=READS)
async def get_dataset(session: SessionDep, project_id: ProjectId, dataset_id: DatasetId) -> Dataset:
    """One dataset: whether it can be used, and what is in it."""
    return await service.get(session, project_id, dataset_id)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    responses=problem_answers("dataset_in_use"),
    dependencies=WRITES,
)
async def delete_dataset(session: SessionDep, project_id: ProjectId, dataset_id: DatasetId) -> None:
    """Delete a dataset that no job needs any more."""
    await service.delete(session, project_id, dataset_id)
