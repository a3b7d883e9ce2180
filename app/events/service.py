"""Reading a job's events, and from which on a client wants them."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs import queries
from app.jobs.tables import Job, JobEvent
from app.problems import Problem

MAX_SEQ = 2**31 - 1  # PostgreSQL's integers end there


async def after(session: AsyncSession, job_id: str, *, seq: int, limit: int) -> list[JobEvent]:
    return list(await session.scalars(queries.events(job_id, after=seq, limit=limit)))


def position(job: Job, *, last_event_id: str | None, after_seq: int) -> int:
    """The number of the last event that a client has.

    Args:
        job: Whose events it wants.
        last_event_id: As the client's header says; it is newer than what stands in the URL.
        after_seq: As the URL says.

    Raises:
        Problem: 422 where the job has no such event: whoever has seen one watched another job,
            and would miss this one's.
    """
    named = last_event_id or str(after_seq)
    if not (named.isascii() and named.isdecimal() and len(named) <= len(str(MAX_SEQ))):
        raise _no_such_event(job, named)
    if int(named) > job.event_seq:
        raise _no_such_event(job, named)
    return int(named)


def _no_such_event(job: Job, named: str) -> Problem:
    return Problem(
        422,
        "no_such_event",
        f"The job has no event {named[:20]!r}; its last one is {job.event_seq}.",
        field="Last-Event-ID",
        remedy="Leave it out to get all events from the first on.",
    )
