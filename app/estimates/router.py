"""HTTP of estimates: signatures, dependencies, one call each. The rules are in service.py."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app import queue
from app.db import SessionDep, release
from app.estimates import service
from app.estimates.schemas import Accuracies, EstimateCreate, EstimateDetail
from app.estimates.states import DONE
from app.jobs.router import Wait
from app.openapi import problem_answers
from app.projects.tables import Scope as KeyScope
from app.security import CallerDep, ProjectId, check_again, needs

router = APIRouter(prefix="/estimates", tags=["estimates"])

READS = [needs(KeyScope.JOBS_READ)]
WRITES = [needs(KeyScope.JOBS_WRITE)]
RETRY_AFTER = "2"

EstimateId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]
AtOnce = Annotated[
    float, Query(ge=0, le=10, description="Answer 202 if it is not done after so many seconds.")
]


class Answered(Response):
    """An answer that is waited for: sent like any other, after the transaction has ended."""

    def __init__(self, wait: Callable[[], Awaitable[EstimateDetail]]) -> None:
        super().__init__()
        self._wait = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = await self._wait()
        status, headers = HTTPStatus.OK, {"Location": f"/estimates/{found.id}"}
        if found.status not in DONE:
            status, headers["Retry-After"] = HTTPStatus.ACCEPTED, RETRY_AFTER
        answer = JSONResponse(found.model_dump(mode="json"), status, headers)
        await answer(scope, receive, send)


@router.post(
    "",
    response_model=EstimateDetail,
    responses={
        202: {"model": EstimateDetail, "description": "Not done yet; `Location` has it soon."},
        **problem_answers(
            "model_not_here",
            "quota_exceeded",
            "invalid_dataset",
            "model_not_found",
            "hub_disabled",
            "unsupported_model",
        ),
    },
    dependencies=WRITES,
)
async def create_estimate(
    request: Request,
    session: SessionDep,
    project_id: ProjectId,
    spec: EstimateCreate,
    wait: AtOnce = 10,
) -> Response:
    """What a job would take: memory, time, bytes, parameters. Takes what `POST /jobs` takes."""
    state = request.app.state
    estimate_id = await service.submit(session, state.settings, project_id, spec)

    async def done() -> EstimateDetail:
        # By now it is committed, so that a worker finds it.
        await run_in_threadpool(queue.wake_chores, state.celery)
        return await service.wait(state.sessions.reading, project_id, estimate_id, wait)

    return Answered(done)


@router.get("/accuracy", dependencies=READS)
async def get_accuracy(session: SessionDep, project_id: ProjectId) -> Accuracies:
    """What estimates said of the project's finished jobs, beside what these took."""
    return await service.accuracies(session, project_id)


@router.get("/{estimate_id}", dependencies=READS)
async def get_estimate(
    request: Request,
    session: SessionDep,
    caller: CallerDep,
    estimate_id: EstimateId,
    wait: Wait = 0,
) -> EstimateDetail:
    """One estimate; kept for a week."""
    found = await service.show(session, caller.project_id, estimate_id)
    if not wait or found.status in DONE:
        return found
    await release(session)
    sessions = request.app.state.sessions.reading
    found = await service.wait(sessions, caller.project_id, estimate_id, wait)
    await check_again(session, caller)
    return found
