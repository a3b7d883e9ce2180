"""What a trainer tells is written once, in order, and under the attempt's fence."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.db import sync_engine
from app.jobs import moves
from app.jobs.states import FAIL, SUCCEED
from app.jobs.tables import Job, JobEvent, JobMetric
from app.projects.service import NewKey
from pst_core.events import DataEvent, EvaluationEvent, PhaseEvent, ProgressEvent, ResumedEvent
from tests.jobs import claim, event_types, job_row, leave, submit
from worker.recorder import MAX_PENDING_METRICS, Recorder

AWAY = "postgresql+psycopg://pst@/pst?host=/nowhere"
TRAINING = PhaseEvent(phase="training")
EVALUATION = EvaluationEvent(stage="main", split="validation", metric="f1", value=0.75)


def progress(step: int, **values: Any) -> ProgressEvent:
    fields = {"loss": 0.5, "sparsity": 0.25, "learning_rate": 1e-3, "eta_seconds": 9.0, **values}
    return ProgressEvent(stage="main", step=step, total_steps=10**6, **fields)


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


@pytest.fixture
def recorder(sessions: sessionmaker[Session], job: Job) -> Recorder:
    return Recorder(sessions, job)


def metrics(sessions: sessionmaker[Session], job: Job) -> dict[int, JobMetric]:
    with sessions() as session:
        found = session.scalars(select(JobMetric).where(JobMetric.job_id == job.id))
        return {metric.step: metric for metric in found}


def count(sessions: sessionmaker[Session], table: type[JobEvent | JobMetric]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def succeed(sessions: sessionmaker[Session], job: Job) -> None:
    assert leave(sessions, SUCCEED, job) is not None


def give_to_another_attempt(sessions: sessionmaker[Session], job: Job) -> None:
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job.id).values(attempt=Job.attempt + 1))


def test_events_are_numbered_without_gaps_in_the_order_they_came(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder
) -> None:
    for event in (TRAINING, EVALUATION, PhaseEvent(phase="exporting")):
        recorder.add(event)
    recorder.flush(force=True)

    assert event_types(sessions, job.id) == ["queued", "started", "phase", "evaluation", "phase"]


def test_what_was_read_is_an_event_and_stands_on_the_job(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder
) -> None:
    recorder.add(DataEvent(columns={"text": "Review"}, rows={"train": 8, "test": 2}))
    recorder.flush(force=True)

    told = {"columns": {"text": "Review"}, "rows": {"train": 8, "test": 2}}
    with sessions() as session:
        event = session.scalars(select(JobEvent).where(JobEvent.type == "data")).one()
        assert event.data == told
        assert job_row(sessions, job.id).data == told


def test_an_event_keeps_what_the_trainer_said_and_which_attempt_it_was(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder
) -> None:
    recorder.add(EVALUATION)
    recorder.flush(force=True)

    with sessions() as session:
        event = session.scalars(select(JobEvent).where(JobEvent.type == "evaluation")).one()
    assert event.data == {"stage": "main", "split": "validation", "metric": "f1", "value": 0.75}
    assert event.attempt == job.attempt


def test_the_last_phase_is_the_jobs(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder
) -> None:
    recorder.add(TRAINING)
    recorder.add(PhaseEvent(phase="exporting"))
    recorder.flush(force=True)

    assert job_row(sessions, job.id).phase == "exporting"


def test_what_was_read_is_told_on_the_job(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder
) -> None:
    rows = {"train": 80, "validation": 10, "test": 10}
    recorder.add(DataEvent.model_validate({"columns": {"text": "review"}, "rows": rows}))
    recorder.flush(force=True)

    assert job_row(sessions, job.id).data == {"columns": {"text": "review"}, "rows": rows}
    assert event_types(sessions, job.id)[-1] == "data"


def test_the_last_progress_is_the_jobs_and_every_step_is_in_its_series(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder
) -> None:
    for step in (1, 2, 3):
        recorder.add(progress(step, loss=1 / step))
    recorder.flush(force=True)

    shown = job_row(sessions, job.id).progress
    assert shown is not None
    assert (shown["step"], shown["loss"], shown["eta_seconds"]) == (3, 1 / 3, 9.0)
    series = metrics(sessions, job)
    assert [(step, metric.loss) for step, metric in sorted(series.items())] == [
        (1, 1.0),
        (2, 0.5),
        (3, 1 / 3),
    ]
    assert {metric.attempt for metric in series.values()} == {job.attempt}


def test_a_step_told_again_is_written_over(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder
) -> None:
    for loss in (0.5, 0.25):
        recorder.add(progress(7, loss=loss))
        recorder.flush(force=True)

    assert [metric.loss for metric in metrics(sessions, job).values()] == [0.25]


def retry_after_steps(sessions: sessionmaker[Session], job: Job, *steps: int) -> Job:
    """Another run of a job whose first has told of some steps and failed."""
    recorder = Recorder(sessions, job)
    for step in steps:
        recorder.add(progress(step))
    recorder.flush(force=True)
    assert leave(sessions, FAIL, job) is not None
    with sessions.begin() as session:
        session.scalars(moves.retry(job.project_id, job.id)).one()
    return claim(sessions)


@pytest.mark.parametrize(("goes_on_behind", "left"), [(None, [3]), (20, [10, 20, 21])])
def test_of_the_run_before_only_steps_up_to_where_the_next_begins_are_left(
    sessions: sessionmaker[Session], job: Job, goes_on_behind: int | None, left: list[int]
) -> None:
    again = retry_after_steps(sessions, job, 10, 20, 30)
    recorder = Recorder(sessions, again)

    recorder.add(TRAINING)
    if goes_on_behind is not None:
        name = f"step-{goes_on_behind:08}"
        recorder.add(ResumedEvent(name=name, stage="main", step=goes_on_behind, exact=True))
    recorder.flush(force=True)
    recorder.add(progress(left[-1]))
    recorder.flush(force=True)

    assert sorted(metrics(sessions, job)) == left


def test_a_run_that_goes_on_and_has_nothing_to_train_keeps_no_later_step(
    sessions: sessionmaker[Session], job: Job
) -> None:
    recorder = Recorder(sessions, retry_after_steps(sessions, job, 10, 20, 30))

    recorder.add(ResumedEvent(name="step-00000020", stage="main", step=20, exact=True))
    recorder.flush(force=True)

    assert sorted(metrics(sessions, job)) == [10, 20]


def test_a_run_that_has_not_begun_to_train_leaves_the_series_of_the_one_before(
    sessions: sessionmaker[Session], job: Job
) -> None:
    recorder = Recorder(sessions, retry_after_steps(sessions, job, 10, 20))

    recorder.add(TRAINING)
    recorder.flush(force=True)

    assert sorted(metrics(sessions, job)) == [10, 20]


def test_who_has_lost_its_job_drops_no_step_of_it(
    sessions: sessionmaker[Session], job: Job
) -> None:
    again = retry_after_steps(sessions, job, 10, 20)
    recorder = Recorder(sessions, again)
    recorder.add(progress(1))
    give_to_another_attempt(sessions, again)
    recorder.flush(force=True)

    assert recorder.fenced
    assert sorted(metrics(sessions, job)) == [10, 20]


@pytest.mark.parametrize("take_away", [give_to_another_attempt, succeed])
@pytest.mark.parametrize("event", [TRAINING, EVALUATION, progress(1)])
def test_nothing_is_written_once_the_job_is_not_ours(
    sessions: sessionmaker[Session],
    job: Job,
    recorder: Recorder,
    take_away: Callable[[sessionmaker[Session], Job], None],
    event: PhaseEvent | EvaluationEvent | ProgressEvent,
) -> None:
    take_away(sessions, job)
    before = event_types(sessions, job.id)
    recorder.add(event)
    recorder.flush(force=True)

    assert recorder.fenced
    after = job_row(sessions, job.id)
    assert event_types(sessions, job.id) == before
    assert (after.phase != "training", after.progress) == (True, None)
    assert metrics(sessions, job) == {}


def test_an_attempt_that_has_its_job_is_not_fenced(recorder: Recorder) -> None:
    recorder.add(TRAINING)
    recorder.add(progress(1))
    recorder.flush(force=True)

    assert not recorder.fenced


def test_what_the_database_does_not_take_is_kept_and_written_once_later(
    sessions: sessionmaker[Session], engine: Engine, job: Job
) -> None:
    switched = sessionmaker(sync_engine(AWAY))
    recorder = Recorder(switched, job)
    recorder.add(TRAINING)
    recorder.add(progress(1))
    recorder.flush(force=True)
    recorder.add(EVALUATION)
    recorder.add(progress(2))
    recorder.flush(force=True)
    assert not recorder.fenced

    switched.configure(bind=engine)
    recorder.flush(force=True)
    recorder.flush(force=True)

    assert event_types(sessions, job.id) == ["queued", "started", "phase", "evaluation"]
    assert sorted(metrics(sessions, job)) == [1, 2]


def test_a_locked_job_row_delays_events_and_loses_none(
    sessions: sessionmaker[Session], job: Job, engine: Engine
) -> None:
    options = {"options": "-c lock_timeout=100ms"}
    impatient = create_engine(engine.url, poolclass=NullPool, connect_args=options)
    recorder = Recorder(sessionmaker(impatient), job)
    recorder.add(TRAINING)
    with sessions.begin() as session:
        session.execute(select(Job).where(Job.id == job.id).with_for_update())
        recorder.flush(force=True)  # gives up after the lock timeout
    recorder.flush(force=True)

    assert event_types(sessions, job.id) == ["queued", "started", "phase"]


def test_writing_is_put_off_until_it_is_due(
    sessions: sessionmaker[Session], job: Job, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.add(TRAINING)
    recorder.flush()
    monkeypatch.setattr("worker.recorder.FLUSH_SECONDS", 3600)
    recorder.add(EVALUATION)
    recorder.flush()

    assert event_types(sessions, job.id) == ["queued", "started", "phase"]
    recorder.flush(force=True)
    assert event_types(sessions, job.id) == ["queued", "started", "phase", "evaluation"]


def test_the_oldest_steps_go_first_when_too_many_wait(
    sessions: sessionmaker[Session],
    job: Job,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.recorder.MAX_PENDING_METRICS", 3)
    for step in range(5):
        recorder.add(progress(step))
    recorder.flush(force=True)

    assert sorted(metrics(sessions, job)) == [2, 3, 4]


def test_as_many_steps_as_may_wait_can_be_written(
    sessions: sessionmaker[Session], recorder: Recorder
) -> None:
    for step in range(MAX_PENDING_METRICS):
        recorder.add(progress(step))
    recorder.flush(force=True)

    assert count(sessions, JobMetric) == MAX_PENDING_METRICS
