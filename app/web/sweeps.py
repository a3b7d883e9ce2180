"""Sweeps: the list, one with its Pareto front, and picking of it."""

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup
from pydantic import ValidationError

from app.db import SessionDep
from app.pages import Cursor, decode_cursor, make_page
from app.problems import Problem
from app.projects.tables import Scope
from app.security import ProjectId, needs
from app.sweeps import picks, service
from app.sweeps.front import make_front
from app.sweeps.picture import draw
from app.sweeps.router import SweepId
from app.sweeps.schemas import PickRequest
from app.web import snippets
from app.web.forms import Form, FormDep, text
from app.web.rendering import render
from pst_core.spec import Format

router = APIRouter(prefix="/sweeps")

READS = [needs(Scope.JOBS_READ)]
WRITES = [needs(Scope.JOBS_WRITE)]
PAGE = 25
NUMBERS = ("min_metric", "max_bytes", "max_drop")
WORDS = ("job_id", "size_of", "prefer")


@router.get("", dependencies=READS)
async def list_sweeps(
    request: Request, session: SessionDep, project_id: ProjectId, cursor: Cursor = None
) -> Response:
    scope = f"{project_id} sweeps"
    before = decode_cursor(cursor, scope) if cursor else None
    sweeps = await service.page(session, project_id, before=before, limit=PAGE + 1)
    shown = make_page(sweeps, PAGE, [sweep.id for sweep in sweeps], scope)
    return render(request, "sweeps.html", sweeps=shown)


@router.get("/{sweep_id}", dependencies=READS)
async def get_sweep(
    request: Request,
    session: SessionDep,
    project_id: ProjectId,
    sweep_id: SweepId,
    size_of: Annotated[Format, Query()] = "packed",
) -> Response:
    """One sweep: its jobs, and the metric against bytes with the Pareto front."""
    sweep = await service.show(session, project_id, sweep_id)
    front = make_front(sweep.jobs, sweep.metric, size_of)
    picture = draw(front, f"{sweep.metric} against size", style="")
    return render(
        request,
        "sweep.html",
        sweep=sweep,
        front=front,
        # What is in it was escaped where it was drawn.
        picture=Markup(picture),  # noqa: S704
        is_live=not front.complete,
        base=snippets.base_url(request),
    )


@router.post("/{sweep_id}/pick", dependencies=WRITES)
async def pick(
    session: SessionDep, project_id: ProjectId, sweep_id: SweepId, form: FormDep
) -> Response:
    """Choose which of its jobs `sweeps/ID` is, by name or by constraints."""
    try:
        asked = PickRequest.model_validate(_asked(form))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise Problem(
            422,
            "invalid_request",
            f"{name}: {first['msg']}",
            field=name,
            remedy="Write numbers, or leave the field empty.",
        ) from error
    await picks.store(session, project_id, sweep_id, asked)
    return _back(sweep_id)


def _asked(form: Form) -> dict[str, Any]:
    asked: dict[str, Any] = {name: found for name in WORDS if (found := text(form, name))}
    for name in NUMBERS:
        if written := text(form, name):
            try:
                asked[name] = int(written) if written.isdecimal() else float(written)
            except ValueError:
                # The rules of the request say what is wrong with it.
                asked[name] = written
    return asked


@router.post("/{sweep_id}/cancel", dependencies=WRITES)
async def cancel_sweep(session: SessionDep, project_id: ProjectId, sweep_id: SweepId) -> Response:
    await service.cancel(session, project_id, sweep_id)
    return _back(sweep_id)


@router.post("/{sweep_id}/pause", dependencies=WRITES)
async def pause_sweep(session: SessionDep, project_id: ProjectId, sweep_id: SweepId) -> Response:
    await service.pause(session, project_id, sweep_id)
    return _back(sweep_id)


@router.post("/{sweep_id}/resume", dependencies=WRITES)
async def resume_sweep(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    sweep_id: SweepId,
) -> Response:
    sweep = await service.resume(session, project_id, sweep_id)
    background.add_task(request.app.state.waker.wake, len(sweep.jobs))
    return _back(sweep_id)


@router.post("/{sweep_id}/delete", dependencies=WRITES)
async def delete_sweep(session: SessionDep, project_id: ProjectId, sweep_id: SweepId) -> Response:
    await service.delete(session, project_id, sweep_id)
    return RedirectResponse("/ui/sweeps", 303)


def _back(sweep_id: str) -> Response:
    return RedirectResponse(f"/ui/sweeps/{sweep_id}", 303)
