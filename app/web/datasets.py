"""Datasets: the list with the upload, and one with its profile and preview."""

import re
from collections.abc import Mapping

from fastapi import APIRouter, BackgroundTasks, Request, Response
from fastapi.responses import RedirectResponse

from app import queue
from app.datasets import service
from app.datasets.offers import Offer
from app.datasets.router import NAME, DatasetId
from app.datasets.schemas import DatasetDetail
from app.datasets.uploads import Upload
from app.db import SessionDep, release
from app.pages import Cursor, decode_cursor, make_page
from app.problems import Problem
from app.projects.tables import Scope
from app.security import ProjectId, needs
from app.web import multipart
from app.web.rendering import render
from pst_core.dataset_profile import FileKind

router = APIRouter(prefix="/datasets")

READS = [needs(Scope.JOBS_READ)]
WRITES = [needs(Scope.DATASETS_WRITE)]
PAGE = 25
ENDINGS: Mapping[str, FileKind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
UNNAMED = re.compile(r"[^A-Za-z0-9._-]+")


@router.get("", dependencies=READS)
async def list_datasets(
    request: Request, session: SessionDep, project_id: ProjectId, cursor: Cursor = None
) -> Response:
    scope = f"{project_id} datasets None"
    before = decode_cursor(cursor, scope) if cursor else None
    found = await service.page(session, project_id, None, before=before, limit=PAGE + 1)
    shown = make_page(found, PAGE, [dataset.id for dataset in found], scope)
    is_live = any(dataset.state == "validating" for dataset in shown.data)
    return render(request, "datasets.html", datasets=shown, is_live=is_live, endings=[*ENDINGS])


@router.post("", dependencies=WRITES)
async def upload_dataset(
    request: Request, background: BackgroundTasks, session: SessionDep, project_id: ProjectId
) -> Response:
    """Take a file in as POST /datasets does, its form by the end of its name."""
    form = multipart.Upload(request)
    await release(session)
    await form.begin()
    state = request.app.state
    upload = Upload(
        sessions=state.sessions.writing,
        settings=state.settings,
        storage=state.storage,
        project_id=project_id,
        offer=_offer(form.name, form.file_name or ""),
    )
    dataset, is_new = await service.upload(session, upload, form.file())
    if is_new:
        background.add_task(queue.wake_chores, state.celery)
    return RedirectResponse(f"/ui/datasets/{dataset.id}", 303)


def _offer(name: str, file_name: str) -> Offer:
    plain = file_name.lower().removesuffix(".gz")
    ending = next((each for each in ENDINGS if plain.endswith(each)), None)
    if ending is None:
        raise _refused("file", f"The file's name ends in none of {', '.join(ENDINGS)}.")
    name = name or UNNAMED.sub("-", file_name.partition(".")[0]).strip("-._")
    if not re.fullmatch(NAME, name):
        raise _refused("name", "The name has other characters than letters, digits, . _ and -.")
    # What it is compressed with is seen from its first bytes; how long it is, once it is there.
    return Offer(name=name, format=ENDINGS[ending], gzip=False, length=None, digests={})


def _refused(field: str, detail: str) -> Problem:
    return Problem(
        422,
        "invalid_request",
        detail,
        field=field,
        remedy="Name it otherwise; letters, digits, dots, dashes and underscores will do.",
    )


@router.get("/{dataset_id}", dependencies=READS)
async def get_dataset(
    request: Request, session: SessionDep, project_id: ProjectId, dataset_id: DatasetId
) -> Response:
    found = await service.get(session, project_id, dataset_id)
    dataset = DatasetDetail.model_validate(found)
    is_live = dataset.status in ("uploading", "validating")
    return render(request, "dataset.html", dataset=dataset, is_live=is_live)


@router.post("/{dataset_id}/delete", dependencies=WRITES)
async def delete_dataset(
    session: SessionDep, project_id: ProjectId, dataset_id: DatasetId
) -> Response:
    await service.delete(session, project_id, dataset_id)
    return RedirectResponse("/ui/datasets", 303)
