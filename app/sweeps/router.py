"""HTTP of sweeps: signatures, dependencies, one call each. The rules are in service.py."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from app.db import SessionDep
from app.idempotency import service as idempotency
from app.openapi import problem_answers
from app.pages import CURSOR_PROBLEMS, Cursor, Limit, Page, decode_cursor, make_page
from app.projects.tables import Scope
from app.security import ProjectId, needs
from app.sweeps import picks, service
from app.sweeps.front import as_csv, make_front
from app.sweeps.picture import draw
from app.sweeps.schemas import (
    Constraints,
    Front,
    Picked,
    PickRequest,
    SweepCreate,
    SweepDetail,
    SweepSummary,
)
from pst_core.spec import Format

router = APIRouter(prefix="/sweeps", tags=["sweeps"])

POLL_SECONDS = 10
READS = [needs(Scope.JOBS_READ)]
WRITES = [needs(Scope.JOBS_WRITE)]
SVG = "image/svg+xml"
CSV = "text/csv"

SweepId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]
SizeOf = Annotated[Format, Query(description="Of which format the bytes count.")]
Bound = Annotated[float | None, Query(allow_inf_nan=False)]

WRONG_STATUS = problem_answers("wrong_status")
WRONG_REQUEST = problem_answers(
    "request_in_flight",
    "quota_exceeded",
    "idempotency_key_reused",
    "invalid_dataset",
    "model_not_found",
    "hub_disabled",
    "unsupported_model",
    "baseline_not_found",
    "baseline_mismatch",
)


def constraints(
    min_metric: Bound = None,
    max_bytes: Annotated[int | None, Query(ge=1, le=2**50)] = None,
    max_drop: Annotated[float | None, Query(ge=0, le=1e6)] = None,
    size_of: SizeOf = "packed",
    prefer: Literal["smallest", "best"] | None = None,
) -> Constraints:
    return Constraints(
        min_metric=min_metric,
        max_bytes=max_bytes,
        max_drop=max_drop,
        size_of=size_of,
        prefer=prefer,
    )


@router.post(
    "", status_code=202, response_model=SweepDetail, responses=WRONG_REQUEST, dependencies=WRITES
)
async def create_sweep(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    body: SweepCreate,
    idempotency_key: idempotency.Key = None,
) -> Response:
    """Accept several jobs as one, all or none; they are durable once this has answered."""

    async def submit() -> dict[str, Any]:
        sweep = await service.submit(session, request.app.state.settings, project_id, body)
        background.add_task(request.app.state.waker.wake, len(sweep.jobs))
        return sweep.model_dump(mode="json")

    answer = await idempotency.once(session, project_id, idempotency_key, body, submit)
    headers = {"Location": f"/sweeps/{answer['id']}", "Retry-After": str(POLL_SECONDS)}
    return JSONResponse(answer, HTTPStatus.ACCEPTED, headers, background=background)


@router.get(
    "",
    response_model=Page[SweepSummary],
    responses=problem_answers(*CURSOR_PROBLEMS),
    dependencies=READS,
)
async def list_sweeps(
    session: SessionDep, project_id: ProjectId, limit: Limit = 50, cursor: Cursor = None
) -> object:
    """The project's sweeps, newest first."""
    scope = f"{project_id} sweeps"
    before = decode_cursor(cursor, scope) if cursor else None
    sweeps = await service.page(session, project_id, before=before, limit=limit + 1)
    return make_page(sweeps, limit, [sweep.id for sweep in sweeps], scope)


@router.get("/{sweep_id}", dependencies=READS)
async def get_sweep(session: SessionDep, project_id: ProjectId, sweep_id: SweepId) -> SweepDetail:
    """One sweep: how its jobs stand, and what came of those that have ended."""
    return await service.show(session, project_id, sweep_id)


@router.post("/{sweep_id}/cancel", status_code=202, responses=WRONG_STATUS, dependencies=WRITES)
async def cancel_sweep(
    session: SessionDep, project_id: ProjectId, sweep_id: SweepId
) -> SweepDetail:
    """Stop all its jobs that have not ended; what has succeeded stays."""
    return await service.cancel(session, project_id, sweep_id)


@router.post("/{sweep_id}/pause", status_code=202, responses=WRONG_STATUS, dependencies=WRITES)
async def pause_sweep(session: SessionDep, project_id: ProjectId, sweep_id: SweepId) -> SweepDetail:
    """Take all its jobs out of the queue, or have their workers save their state and stop."""
    return await service.pause(session, project_id, sweep_id)


@router.post("/{sweep_id}/resume", status_code=202, responses=WRONG_STATUS, dependencies=WRITES)
async def resume_sweep(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    sweep_id: SweepId,
) -> SweepDetail:
    """Queue its paused jobs again; they go on from where they were saved."""
    sweep = await service.resume(session, project_id, sweep_id)
    background.add_task(request.app.state.waker.wake, len(sweep.jobs))
    return sweep


@router.delete("/{sweep_id}", status_code=204, dependencies=WRITES)
async def delete_sweep(session: SessionDep, project_id: ProjectId, sweep_id: SweepId) -> None:
    """Delete a sweep and all its jobs with all that they stored."""
    await service.delete(session, project_id, sweep_id)


@router.get(
    "/{sweep_id}/front",
    response_model=Front,
    responses={200: {"content": {SVG: {}, CSV: {}}}},
    dependencies=READS,
)
async def get_front(
    session: SessionDep,
    project_id: ProjectId,
    sweep_id: SweepId,
    output: Annotated[Literal["json", "csv", "svg"], Query(alias="format")] = "json",
    size_of: SizeOf = "packed",
) -> object:
    """The metric against bytes, by method and sparsity over the seeds, with the Pareto front."""
    sweep = await service.show(session, project_id, sweep_id)
    front = make_front(sweep.jobs, sweep.metric, size_of)
    match output:
        case "csv":
            return Response(as_csv(front), media_type=CSV)
        case "svg":
            return Response(draw(front, f"{sweep.metric} against size, {sweep_id}"), media_type=SVG)
    return front


@router.get("/{sweep_id}/pick", responses=problem_answers("nothing_fits"), dependencies=READS)
async def find_pick(
    session: SessionDep,
    project_id: ProjectId,
    sweep_id: SweepId,
    asked: Annotated[Constraints, Depends(constraints)],
) -> Picked:
    """The smallest of its jobs (or the best) that satisfies all constraints; nothing is stored."""
    return await picks.find(session, project_id, sweep_id, asked)


@router.put(
    "/{sweep_id}/pick",
    responses=problem_answers("nothing_fits", "job_not_succeeded"),
    dependencies=WRITES,
)
async def put_pick(
    session: SessionDep,
    project_id: ProjectId,
    sweep_id: SweepId,
    body: PickRequest | None = None,
) -> SweepDetail:
    """Choose which of its jobs `sweeps/ID` is to the Hub's clients, by name or by constraints.

    It stays so until another is chosen.
    """
    return await picks.store(session, project_id, sweep_id, body or PickRequest())
