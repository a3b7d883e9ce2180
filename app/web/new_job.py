"""The form for a new job: checked by the spec's own rules, estimated and posted by the services."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Receive, Scope, Send

from app import queue
from app.catalog import service as catalog
from app.datasets import service as datasets
from app.db import SessionDep
from app.estimates import service as estimates
from app.estimates.schemas import EstimateDetail
from app.jobs import service
from app.jobs.schemas import JobCreate
from app.pointers import pointer
from app.problems import Problem, words
from app.projects.tables import Scope as KeyScope
from app.security import ProjectId, needs
from app.web import snippets
from app.web.forms import Form, FormDep, text
from app.web.rendering import page, render
from app.web.spec_form import FIRST, body, fields, filled
from pst_core.errors import PstError

# It also shows what may be read: the project's datasets, and the job that another is to be like.
router = APIRouter(
    prefix="/jobs/new", dependencies=[needs(KeyScope.JOBS_READ), needs(KeyScope.JOBS_WRITE)]
)

ESTIMATE_SECONDS = 10
SUGGESTED = 50  # of the project's datasets
UNPROCESSABLE = 422


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled:
    """A form as it is shown: what stands in it, what is wrong with it, and what is beside it."""

    values: Form
    errors: Mapping[str, str] = field(default_factory=dict)
    """By the JSON pointers of the fields."""
    problem: Problem | PstError | None = None
    """What is wrong, and with no field."""
    estimate: EstimateDetail | None = None
    spec: Mapping[str, Any] | None = None
    """What would be posted, once it was checked."""


class Estimated(Response):
    """The form with its estimate: waited for when it is sent, after the transaction has ended."""

    def __init__(self, wait: Callable[[], Awaitable[str]]) -> None:
        super().__init__()
        self._wait = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await HTMLResponse(await self._wait())(scope, receive, send)


@router.get("")
async def show_form(
    request: Request,
    session: SessionDep,
    project_id: ProjectId,
    like: Annotated[str, Query(pattern=r"^[A-Za-z0-9_]{0,64}$")] = "",
    dataset: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """An empty form, or one that is filled like another job."""
    values: dict[str, list[str]] = {"dataset.ref": [dataset]} if dataset else {}
    if like:
        job = await service.show(session, project_id, like)
        # Null and none are what is left out.
        values = filled(job.spec.model_dump(mode="json") | {"metadata": job.metadata})
    context = await _context(request, session, project_id, Filled(values=values))
    return render(request, "new_job.html", **context)


@router.post("")
async def send_form(
    request: Request,
    background: BackgroundTasks,
    session: SessionDep,
    project_id: ProjectId,
    form: FormDep,
) -> Response:
    """Post the job, or check and estimate it first."""
    posted, spec = Filled(values=form), body(form)
    settings = request.app.state.settings
    try:
        job = JobCreate.model_validate(spec)
        if text(form, "do") != "estimate":
            made = await service.submit(session, settings, project_id, job)
            background.add_task(request.app.state.waker.wake)
            return RedirectResponse(f"/ui/jobs/{made.id}", 303)
        await service.resolve(session, settings, project_id, job)
    except (ValidationError, PstError, Problem) as error:
        wrong = _refused(posted, spec, error)
        context = await _context(request, session, project_id, wrong)
        return render(request, "new_job.html", UNPROCESSABLE, **context)
    checked = replace(posted, spec=spec)
    return await _estimated(request, session, project_id, job, checked)


async def _estimated(
    request: Request, session: AsyncSession, project_id: str, job: JobCreate, checked: Filled
) -> Response:
    state = request.app.state
    context = await _context(request, session, project_id, checked)
    try:
        estimate_id = await estimates.submit(session, state.settings, project_id, job)
    except Problem as problem:
        # It can be posted, and nothing be known of it.
        return render(request, "new_job.html", **context | {"problem": problem})

    async def wait() -> str:
        await run_in_threadpool(queue.wake_chores, state.celery)
        found = await estimates.wait(
            state.sessions.reading, project_id, estimate_id, ESTIMATE_SECONDS
        )
        return page(request, "new_job.html", **context | {"estimate": found})

    return Estimated(wait)


def _refused(
    posted: Filled, spec: dict[str, Any], error: ValidationError | PstError | Problem
) -> Filled:
    """The form with what is wrong beside its fields, as the API would point at them."""
    if isinstance(error, ValidationError):
        messages = {pointer(each["loc"], spec): words(each) for each in error.errors()}
        return replace(posted, errors=messages)
    if isinstance(error, PstError) and error.field:
        place = pointer(error.field.split("."), spec)
        return replace(posted, errors={place: f"{error.message} {error.remedy}".strip()})
    if isinstance(error, ValidationError):
        raise error
    return replace(posted, problem=error)


async def _context(
    request: Request, session: AsyncSession, project_id: str, shown: Filled
) -> dict[str, Any]:
    uploads = await datasets.page(session, project_id, None, before=None, limit=SUGGESTED)
    base = snippets.base_url(request)
    known = {f"#/{each.name.replace('.', '/')}" for each in fields()}
    # An error of a part stands at the field that the part is of.
    errors = {_owner(place, known): message for place, message in shown.errors.items()}
    return {
        "fields": fields()[: len(FIRST)],
        "more": fields()[len(FIRST) :],
        "values": shown.values,
        "errors": errors,
        "stray": [message for place, message in errors.items() if place not in known],
        "problem": shown.problem,
        "estimate": shown.estimate,
        "checked": shown.spec is not None,
        "curl": snippets.post(base, shown.spec) if shown.spec is not None else None,
        "models": [each.ref for each in catalog.models(request.app.state.settings).data],
        "datasets": [(each.id, each.name) for each in uploads],
    }


def _owner(place: str, known: set[str]) -> str:
    """The field of the form that a pointer leads to, or into."""
    found = place
    while found not in known and "/" in found:
        found = found.rpartition("/")[0]
    if found in known:
        return found
    # A part that is missing is told at the whole: #/dataset is #/dataset/ref.
    return next((each for each in sorted(known) if each.startswith(f"{place}/ref")), place)
