"""HTTP of a job's report: what came out, once it is there."""

from fastapi import APIRouter

from app.jobs.router import OwnedJob
from app.openapi import problem_answers
from app.problems import Problem
from app.projects.tables import Scope
from app.security import needs
from pst_core.report import Report

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[needs(Scope.JOBS_READ)])


@router.get("/report", response_model=Report, responses=problem_answers("no_report"))
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
