"""The checker of disturbed runs finds what is wrong with one, and nothing wrong with a good one."""

from dataclasses import replace

import pytest

from tests.faults.chaos.checker import Budgets, check
from tests.faults.chaos.record import Call, Deed, Event, JobState, Note, Record, Stored
from tests.faults.toy import expected_result

BUDGETS = Budgets(lost_attempts=2, failed_attempts=1)


def events(*pairs: tuple[str, int]) -> list[Event]:
    """One a second."""
    return [
        Event(seq=number, attempt=attempt, type=kind, at=float(number))
        for number, (kind, attempt) in enumerate(pairs, 1)
    ]


# It lost one attempt, whose trainer was stopped meanwhile.
GOOD_EVENTS = events(
    ("queued", 0), ("started", 1), ("requeued", 1), ("started", 2), ("phase", 2), ("succeeded", 2)
)
GOOD = JobState(id="job", steps=2, status="succeeded", attempt=2, events=GOOD_EVENTS)


def note(pid: int, attempt: int, at: float, *, device: str = "cpu", job: str = "job") -> Note:
    return Note(what="step", step=1, pid=pid, job=job, attempt=attempt, at=at, device=device)


POST = Call(op="post", at=0, job="job", answer=202, run=1)
STALE = note(1, 1, 5.6)  # after it was let go on
GOOD_RECORD = Record(
    calls=[POST, Call(op="pause", at=1, job="job")],
    notes=[
        note(1, 1, 2.1),
        note(1, 1, 2.5),
        note(2, 2, 4.1, device="cpu:1"),
        STALE,
        note(2, 2, 5.9, device="cpu:1"),
    ],
    deeds=[Deed(what="freeze_worker", at=2.6, pids=(1,)), Deed(what="thaw", at=5.5, pids=(1,))],
    jobs={"job": GOOD},
    artifacts=[
        Stored(
            job="job",
            attempt=2,
            kind="checkpoint",
            state="ready",
            key="p/job/a2/art",
            sha256="ab",
            files=[expected_result(2)],
            at=5.5,
        )
    ],
    objects={"p/job/a2/art": "ab"},
)


def problems(record: Record) -> list[str]:
    return check(record, BUDGETS)


def with_job(**changes: object) -> Record:
    return replace(GOOD_RECORD, jobs={"job": replace(GOOD, **changes)})  # type: ignore[arg-type]


def with_checkpoint(**changes: object) -> Record:
    [checkpoint] = GOOD_RECORD.artifacts
    return replace(GOOD_RECORD, artifacts=[replace(checkpoint, **changes)])  # type: ignore[arg-type]


def test_a_good_run_is_good() -> None:
    assert problems(GOOD_RECORD) == []


def test_a_paused_job_need_not_have_ended() -> None:
    paused = JobState(
        id="job", steps=2, status="paused", attempt=0, events=events(("queued", 0), ("paused", 0))
    )

    assert problems(Record(calls=[POST], jobs={"job": paused})) == []


def test_a_deleted_job_may_be_gone() -> None:
    deletion = Call(op="delete", at=1, job="job", answer=204)

    assert problems(Record(calls=[POST, deletion])) == []


def test_a_job_may_end_once_a_run() -> None:
    kinds = [("queued", 0), ("cancelled", 0), ("retried", 0), ("cancelled", 0)]
    retried = JobState(
        id="job", steps=2, status="cancelled", run=2, attempt=0, events=events(*kinds)
    )
    cancels = [Call(op="cancel", at=1, job="job", answer=202, run=run) for run in (1, 2)]

    assert problems(Record(calls=[POST, *cancels], jobs={"job": retried})) == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (replace(GOOD_RECORD, jobs={}, artifacts=[], objects={}), "accepted and is not there"),
        (replace(GOOD_RECORD, calls=[]), "nobody was told of it"),
        (with_job(deleted=True), "deleted and is still there"),
        (with_job(status="running"), "is running, its ends are ['succeeded']"),
        (with_job(events=GOOD_EVENTS[:-1]), "run 1 has the ends []"),
        (
            with_job(events=[*GOOD_EVENTS, replace(GOOD_EVENTS[-1], seq=7)]),
            "run 1 has the ends ['succeeded', 'succeeded']",
        ),
        (with_job(status="failed", error="worker_lost"), "is failed, ended succeeded"),
        (with_job(events=[*GOOD_EVENTS[:4], GOOD_EVENTS[5]]), "are numbered [1, 2, 3, 4, 6]"),
        (
            with_job(events=[*GOOD_EVENTS[:4], replace(GOOD_EVENTS[4], attempt=1), GOOD_EVENTS[5]]),
            "event 5 (phase) is of attempt 1",
        ),
        (with_job(attempt=3), "attempt 3, started 2 times"),
        (with_job(lost_attempts=3), "lost 3 attempts in a row"),
        (with_job(failed_attempts=2), "failed 2 attempts in a row"),
        (with_job(status="failed", error="internal"), "failed with internal"),
        (
            replace(GOOD_RECORD, calls=[Call(op="cancel", at=3, job="job", answer=202, run=1)]),
            "run 1 was cancelled, and ended otherwise",
        ),
        (
            replace(GOOD_RECORD, calls=[Call(op="list", at=3, answer=500)]),
            "list was answered with 500",
        ),
        (replace(GOOD_RECORD, deeds=[]), "processes 1 and 2 train for 1.50 s at once"),
        (
            replace(GOOD_RECORD, notes=[*GOOD_RECORD.notes, note(1, 1, 7.6), note(2, 2, 8)]),
            "processes 1 and 2 train",
        ),
        (
            replace(GOOD_RECORD, notes=[*GOOD_RECORD.notes, note(3, 1, 2.3, job="other")]),
            "cpu: processes 1 and 3 train",
        ),
        (with_checkpoint(attempt=1), "made after attempt 2 was started"),
        (with_checkpoint(files=["cd"]), "instead of"),
        (with_checkpoint(state="uploading"), "is uploading for ever"),
        (with_checkpoint(sha256="cd"), "stored are ab, not cd"),
        (replace(GOOD_RECORD, artifacts=[]), "is stored, and no row knows it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_found(record: Record, said: str) -> None:
    assert any(said in problem for problem in problems(record)), problems(record)
