"""What must be true of jobs after each step of the machine in life.py.

The numbers are those of the invariants: one end a run (I1), one holder and attempts that only
rise (I2), nothing by a stale attempt (I3), no job lost (I4), events without gaps (I8).
"""

from collections import defaultdict
from typing import Any

from sqlalchemy import ColumnElement, Engine, Float, Row, Select, cast, func, select
from sqlalchemy.orm import InstrumentedAttribute

from app.jobs.states import MOVES, TERMINAL, Status
from app.jobs.tables import Job, JobEvent
from tests.app.jobs.life_model import ModelJob

Pair = tuple[Status | None, Status]

SLACK_SECONDS = 100.0  # of real time that an example may take
# Every way there is from one state to another; a run starts where a job is submitted.
PAIRS: set[Pair] = {(source, move.target) for move in MOVES for source in (move.sources or {None})}


def look(engine: Engine) -> tuple[dict[str, Row[Any]], dict[str, list[tuple[int, str]]]]:
    jobs: Select[*tuple[Any, ...]] = select(
        Job.id,
        Job.status,
        Job.attempt,
        Job.run,
        Job.lost_attempts,
        Job.cancel_requested,
        Job.pause_requested,
        Job.deleted_at.is_not(None).label("deleted"),
        Job.worker,
        Job.ran_seconds,
        _seconds_until(Job.lease_until).label("lease"),
        _seconds_until(Job.not_before).label("waits"),
    )
    happened = select(JobEvent.job_id, JobEvent.seq, JobEvent.attempt, JobEvent.type)
    events: dict[str, list[tuple[int, str]]] = defaultdict(list)
    with engine.connect() as connection:
        rows = {row.id: row for row in connection.execute(jobs)}
        for job_id, seq, attempt, kind in connection.execute(
            happened.order_by(JobEvent.job_id, JobEvent.seq)
        ):
            events[job_id].append((attempt, kind))
            assert seq == len(events[job_id]), "a gap in the events"  # I8
    return rows, events


def check_model(
    job: ModelJob, rows: dict[str, Row[Any]], events: dict[str, list[tuple[int, str]]]
) -> None:
    assert job.id in rows, "a job was lost"  # I4
    row = rows[job.id]
    found = (row.status, row.attempt, row.run, row.lost_attempts)
    assert found == (job.status, job.attempt, job.run, job.lost)
    asked = (row.cancel_requested, row.pause_requested, row.deleted)
    assert asked == (job.cancel, job.pause, job.deleted)
    assert abs(row.ran_seconds - job.ran) < SLACK_SECONDS
    assert events[job.id] == job.events  # I3: nothing of a stale attempt is among them
    # I2: whoever runs it is one, for as long as the database says.
    assert (row.worker is not None) == (job.status == Status.RUNNING)
    if job.status == Status.RUNNING:
        assert abs(row.lease - job.lease) < SLACK_SECONDS, "not the database's clock"
    if job.status == Status.QUEUED:
        assert abs(row.waits - job.waits) < SLACK_SECONDS


def check_moved(before: Row[Any], after: Row[Any]) -> None:
    if before.status != after.status:
        assert (before.status, after.status) in PAIRS
    claimed = before.status == Status.QUEUED and after.status == Status.RUNNING
    assert after.attempt == before.attempt + claimed  # I2
    # I1: a run ends once; only another run leaves the end.
    left = before.status in TERMINAL and after.status not in TERMINAL
    assert after.run == before.run + left
    assert after.status == before.status or before.status not in TERMINAL or left


def _seconds_until(time: InstrumentedAttribute[Any]) -> ColumnElement[float]:
    return cast(func.extract("epoch", time - func.clock_timestamp()), Float)
