"""Jobs keep to the model whatever happens to them in whatever order, and seeded faults do not pass.

The machine is in life.py, the model in life_model.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import ColumnElement, Engine, Text, Update, event, func, insert, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Result
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import ORMExecuteState, Session

from app.jobs import changes, moves
from app.jobs.changes import ChangedJobs
from app.jobs.states import Status
from app.jobs.tables import Job, JobEvent
from app.projects.service import NewKey
from tests.app.jobs.life import Life, World, world
from tests.app.jobs.life_checks import PAIRS, Pair

RUNS = 8
# Which job is the oldest differs from run to run, and with it what comes of the same steps.
MOST_RUNS = 24
# After ten examples Hypothesis repeats parts of earlier ones, and with them a few rules very often.
EXAMPLES = 9
STEPS_EACH = 45


@pytest.fixture
def shared(engine: Engine, key: NewKey, foreign_key: NewKey) -> Iterator[World]:
    url = engine.url.render_as_string(hide_password=False)
    with world(url, (key.project_id, foreign_key.project_id)) as shared:
        yield shared


def live(shared: World, runs: Iterable[int] = range(RUNS)) -> None:
    for run in runs:
        run_state_machine_as_test(
            cast("type[Life]", seed(run)(lambda: Life(shared))),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS_EACH,
                database=None,
                deadline=None,
                # What fails is short enough, and shrinking it would take minutes.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )


def rare(shared: World) -> dict[str | Pair, int]:
    """Which rules and moves have been taken fewer than twenty times."""
    rules = {rule.function.__name__: 0 for rule in Life(shared).rules}
    taken = {**rules, **dict.fromkeys(PAIRS, 0), **shared.steps, **shared.pairs}
    return {each: times for each, times in taken.items() if times < 20}


def test_jobs_keep_to_the_model(shared: World) -> None:
    live(shared)
    for run in range(RUNS, MOST_RUNS):
        if rare(shared):
            live(shared, [run])

    assert sum(shared.steps.values()) >= 2000
    assert rare(shared) == {}


def test_a_fence_without_the_attempt_does_not_pass(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held_by(job_id: str, attempt: int) -> ColumnElement[bool]:
        del attempt
        return (Job.id == job_id) & (Job.status == Status.RUNNING)

    monkeypatch.setattr(moves, "held_by", held_by)

    with pytest.raises(AssertionError):
        live(shared)


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "behind"])
def test_a_lease_by_the_workers_own_clock_does_not_pass(
    shared: World, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    def lease_end(seconds: float) -> ColumnElement[Any]:
        return literal(datetime.now(UTC) + timedelta(hours=hours, seconds=seconds))

    monkeypatch.setattr(moves, "lease_end", lease_end)

    with pytest.raises(AssertionError):
        live(shared)


def test_an_event_that_is_written_after_the_commit_does_not_pass(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_event(changed: Update, kind: str, data: Mapping[str, Any]) -> ChangedJobs:
        moved = changed.values(event_seq=Job.event_seq + 1).returning(*Job.__table__.columns)
        alone = select(Job).from_statement(moved)
        options = {"populate_existing": True, "late_event": {"type": kind, "data": dict(data)}}
        return cast("ChangedJobs", alone.execution_options(**options))

    def remember(state: ORMExecuteState) -> Result[Any] | None:
        late = state.execution_options.get("late_event")
        if late is None:
            return None
        found = state.invoke_statement().freeze()
        for job in found().scalars():
            whose = {"project_id": job.project_id, "job_id": job.id, "attempt": job.attempt}
            row = {**whose, "seq": job.event_seq, **late}
            state.session.info.setdefault("late_events", []).append(row)
        return found()

    def write(session: Session) -> None:
        rows = session.info.pop("late_events", [])
        if rows and not Life.dies_after_commit:
            with shared.engine.begin() as connection:
                connection.execute(insert(JobEvent), rows)

    monkeypatch.setattr(changes, "with_event", with_event)
    monkeypatch.setattr(moves, "with_event", with_event)
    event.listen(Session, "do_orm_execute", remember)
    event.listen(Session, "after_commit", write)
    try:
        with pytest.raises(AssertionError):
            live(shared)
    finally:
        event.remove(Session, "do_orm_execute", remember)
        event.remove(Session, "after_commit", write)


def test_an_event_that_is_numbered_without_the_row_lock_does_not_pass(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_event(changed: Update, kind: str, data: Mapping[str, Any]) -> ChangedJobs:
        counted = changed.values(event_seq=Job.event_seq + 1)
        moved = counted.returning(*Job.__table__.columns).cte("moved")
        last = select(func.coalesce(func.max(JobEvent.seq), 0))
        number = last.where(JobEvent.job_id == moved.c.id).scalar_subquery() + 1
        whose = (moved.c.project_id, moved.c.id, moved.c.attempt)
        values = (*whose, number, literal(kind, Text), literal(data, JSONB))
        columns = ["project_id", "job_id", "attempt", "seq", "type", "data"]
        logged = insert(JobEvent).from_select(columns, select(*values)).cte("logged")
        both = select(Job).from_statement(select(moved).add_cte(logged))
        return cast("ChangedJobs", both.execution_options(populate_existing=True))

    monkeypatch.setattr(changes, "with_event", with_event)
    monkeypatch.setattr(moves, "with_event", with_event)

    with pytest.raises(IntegrityError):
        live(shared)
