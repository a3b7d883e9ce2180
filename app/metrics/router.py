"""HTTP of a job's series. The rules are in service.py."""

from fastapi import APIRouter

from app.db import SessionDep
from app.jobs.router import OwnedJob
from app.metrics import service
from app.metrics.schemas import JobMetricOut
from app.openapi import problem_answers
from app.pages import CURSOR_PROBLEMS, Cursor, Limit, Page, decode_number, make_page
from app.projects.tables import Scope
from app.security import needs

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[needs(Scope.JOBS_READ)])


@router.get(
    "/metrics",
    response_model=Page[JobMetricOut],
    responses=problem_answers(*CURSOR_PROBLEMS),
)
async def list_metrics(
    session: SessionDep, job: OwnedJob, limit: Limit = 1000, cursor: Cursor = None
) -> object:
    """Loss, sparsity and learning rate by step."""
    metrics = await service.page(
        session, job.id, after=decode_number(cursor, job.id), limit=limit + 1
    )
    return make_page(metrics, limit, [str(metric.step) for metric in metrics], job.id)
