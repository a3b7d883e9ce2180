"""One change of jobs, its event and who is told, as one statement: none is there without the rest.

Which changes there are stands in moves.py.
"""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import (
    CTE,
    ColumnElement,
    Text,
    Update,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.jobs.states import Move
from app.jobs.tables import Job, JobEvent
from app.webhooks import outbox
from app.webhooks.events import event_type

# A statement that gives back the jobs it changed; no row means: not ours, or no longer so.
ChangedJobs = TypedReturnsRows[Job]

NO_DATA: Mapping[str, Any] = {}
COLUMNS = tuple(Job.__table__.columns)


def move_jobs(
    move: Move,
    which: ColumnElement[bool],
    *,
    values: Mapping[str, Any] = NO_DATA,
    data: Mapping[str, Any] = NO_DATA,
) -> ChangedJobs:
    """Move those jobs that are in a state which the move leaves."""
    changed = (
        update(Job)
        .where(which, Job.status.in_(sorted(move.sources)))
        .values(status=move.target, **values)
    )
    return with_event(changed, move.event, data)


def with_event(changed: Update, kind: str, data: Mapping[str, Any]) -> ChangedJobs:
    """The change, and its event, numbered under the row lock that the change takes."""
    moved = changed.values(event_seq=Job.event_seq + 1).returning(*COLUMNS).cte("moved")
    changed_jobs = select(Job).from_statement(select(moved).add_cte(*parts_of(moved, kind, data)))
    return cast("ChangedJobs", changed_jobs.execution_options(populate_existing=True))


def parts_of(moved: CTE, kind: str, data: Mapping[str, Any]) -> list[CTE]:
    """What a change inserts besides; PostgreSQL does so although nothing reads from it.

    Args:
        moved: The jobs as they are now, with all columns.
        kind: Of the event.
        data: Of the event.
    """
    logged = (
        insert(JobEvent)
        .from_select(
            ["project_id", "job_id", "seq", "attempt", "type", "data"],
            select(
                moved.c.project_id,
                moved.c.id,
                moved.c.event_seq,
                moved.c.attempt,
                literal(kind, Text),
                literal(dict(data), JSONB),
            ),
        )
        .returning(JobEvent.created_at)
        .cte("logged")
    )
    parts = [logged]
    if (told := event_type(kind)) is not None:
        parts.append(outbox.deliveries(moved, told))
    return parts
