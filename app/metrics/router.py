"""HTTP of a job's series. The rules are in service.py."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.accept import CSV, JSON, preferred
from app.db import SessionDep
from app.jobs.router import OwnedJob
from app.metrics import service
from app.metrics.schemas import JobMetricOut
from app.openapi import problem_answers
from app.pages import CURSOR_PROBLEMS, Cursor, Limit, Page, decode_number, make_page
from app.problems import Problem
from app.projects.tables import Scope
from app.security import needs

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[needs(Scope.JOBS_READ)])

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {CSV: {"schema": {"type": "string"}}}, "description": "A page, or CSV."},
    **problem_answers(*CURSOR_PROBLEMS),
}
Points = Annotated[
    int | None,
    Query(
        ge=4,
        le=10_000,
        description="All of the series, by so many steps at the most: the first, the last, and the "
        "least and greatest losses between.",
    ),
]
AsFormat = Annotated[
    Literal["json", "csv"] | None,
    Query(alias="format", description="As `Accept`, for where that cannot be set."),
]


@router.get("/metrics", response_model=Page[JobMetricOut], responses=ANSWERS)
async def list_metrics(
    request: Request,
    session: SessionDep,
    job: OwnedJob,
    limit: Limit = 1000,
    cursor: Cursor = None,
    points: Points = None,
    as_format: AsFormat = None,
) -> object:
    """Loss, sparsity and learning rate by step: in pages, whole as CSV, or in outline."""
    accepted = preferred(request.headers.get("accept", ""), (JSON, CSV))
    wants_csv = as_format == "csv" or (as_format is None and accepted == CSV)
    if cursor and (points or wants_csv):
        raise Problem(
            422,
            "invalid_request",
            "cursor: only pages of JSON have one.",
            field="cursor",
            remedy="Leave it out: the series comes whole.",
        )
    if points:
        outline = await service.outline(session, job.id, points)
        if wants_csv:
            return Response(service.as_csv(outline), media_type=CSV)
        return make_page(outline, points, [str(metric.step) for metric in outline], job.id)
    if wants_csv:
        body = service.whole_csv(request.app.state.sessions.reading, job.id)
        return StreamingResponse(body, media_type=CSV)
    after = decode_number(cursor, job.id)
    metrics = await service.page(session, job.id, after=after, limit=limit + 1)
    return make_page(metrics, limit, [str(metric.step) for metric in metrics], job.id)
