"""HTTP of a job's events, as a page or as a stream. The rules are in service.py."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from app.accept import EVENT_STREAM, JSON, preferred
from app.db import SessionDep
from app.events import service
from app.events.schemas import JobEventOut
from app.events.stream import EventStream
from app.jobs.router import OwnedJob
from app.jobs.states import TERMINAL
from app.openapi import problem_answers
from app.pages import Cursor, Limit, Page, decode_number, make_page
from app.projects.tables import Scope
from app.security import CallerDep, needs

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[needs(Scope.JOBS_READ)])

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENT_STREAM: {}}, "description": "A page, or a stream that goes on."},
    204: {"description": "The job has ended, and you have all its events: do not come again."},
    **problem_answers(
        "invalid_cursor",
        "cursor_of_another_list",
        "no_such_event",
        "too_many_streams",
        "shutting_down",
    ),
}


async def last_event(
    job: OwnedJob,
    after: Annotated[
        int, Query(ge=0, le=service.MAX_SEQ, description="The number of the last event you have.")
    ] = 0,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="The same, as clients of streams send it.")
    ] = None,
) -> int:
    return service.position(job, last_event_id=last_event_id, after_seq=after)


@router.get("/events", response_model=Page[JobEventOut], responses=ANSWERS)
async def list_events(
    request: Request,
    session: SessionDep,
    job: OwnedJob,
    caller: CallerDep,
    last: Annotated[int, Depends(last_event)],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> object:
    """What happened to a job, in order; with `Accept: text/event-stream`, as it happens."""
    if preferred(request.headers.get("accept", ""), (JSON, EVENT_STREAM)) == EVENT_STREAM:
        if job.status in TERMINAL and last == job.event_seq:
            return Response(status_code=204)
        return EventStream(job, caller.key_id, request.app.state.feeds, after=last)
    after = decode_number(cursor, job.id) if cursor else last
    events = await service.after(session, job.id, seq=after, limit=limit + 1)
    return make_page(events, limit, [str(event.seq) for event in events], job.id)
