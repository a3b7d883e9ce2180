"""The life of a stored object's row: announced, written, shown, given up, forgotten."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import queries
from app.artifacts.tables import Artifact, Kind, State
from app.jobs import moves
from app.jobs.states import CANCEL_RUNNING, FAIL, PAUSE_RUNNING, REQUEUE, SUCCEED, Move
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.artifacts import announce, artifacts, describe, retire, store
from tests.jobs import claim, leave, let_pass, submit

HOUR = 3600.0


@pytest.fixture
def job(sessions: sessionmaker[Session], key: NewKey) -> Job:
    submit(sessions, key.project_id)
    return claim(sessions)


def again(sessions: sessionmaker[Session], job: Job) -> Job:
    """The next attempt at a job that was given back."""
    leave(sessions, REQUEUE, job)
    return claim(sessions)


def delete(sessions: sessionmaker[Session], job: Job) -> None:
    with sessions.begin() as session:
        session.scalars(moves.delete(job.project_id, job.id)).one()


def test_an_object_is_announced_again_where_the_answer_was_lost(
    sessions: sessionmaker[Session], job: Job
) -> None:
    first = announce(sessions, job, Kind.LOG, "log", id="art_1")

    assert announce(sessions, job, Kind.LOG, "log", id="art_1") == first == "art_1"


def test_an_attempt_cannot_have_two_objects_of_a_name(
    sessions: sessionmaker[Session], job: Job
) -> None:
    announce(sessions, job, Kind.LOG, "log")

    with pytest.raises(IntegrityError):
        announce(sessions, job, Kind.LOG, "log", storage_key="elsewhere")


def test_two_attempts_can(sessions: sessionmaker[Session], job: Job) -> None:
    assert announce(sessions, job, Kind.LOG, "log")
    assert announce(sessions, again(sessions, job), Kind.LOG, "log")


def test_no_object_is_shown_without_its_hash(sessions: sessionmaker[Session], job: Job) -> None:
    artifact_id = announce(sessions, job, Kind.LOG, "log")

    with pytest.raises(IntegrityError):
        describe(sessions, str(artifact_id), state=State.READY, sha256=None)


@pytest.mark.parametrize(
    "move", [SUCCEED, FAIL, REQUEUE, PAUSE_RUNNING, CANCEL_RUNNING], ids=lambda move: move.event
)
def test_an_attempt_that_has_ended_writes_no_more_objects(
    sessions: sessionmaker[Session], job: Job, move: Move
) -> None:
    begun = announce(sessions, job, Kind.SNAPSHOT, "begun")
    leave(sessions, move, job)

    assert announce(sessions, job, Kind.SNAPSHOT, "new") is None
    assert not describe(sessions, str(begun), state=State.READY)


def test_what_an_earlier_attempt_was_writing_stays_unseen(
    sessions: sessionmaker[Session], job: Job
) -> None:
    begun = announce(sessions, job, Kind.SNAPSHOT, "begun")
    again(sessions, job)

    assert not describe(sessions, str(begun), state=State.READY)
    assert artifacts(sessions, State.READY) == set()


def test_an_object_that_is_being_deleted_cannot_be_described_back_to_life(
    sessions: sessionmaker[Session], job: Job
) -> None:
    artifact_id = announce(sessions, job, Kind.SNAPSHOT, "snapshot")
    retire(sessions, Artifact.id == artifact_id)

    assert not describe(sessions, str(artifact_id), state=State.READY)
    assert artifacts(sessions, State.DELETING) == {"snapshot"}


def test_only_checkpoints_of_the_attempt_that_succeeded_are_published(
    sessions: sessionmaker[Session], job: Job
) -> None:
    announce(sessions, job, Kind.CHECKPOINT, "earlier")
    second = again(sessions, job)
    described = announce(sessions, second, Kind.CHECKPOINT, "mine")
    announce(sessions, second, Kind.LOG, "log")
    describe(sessions, str(described))

    with sessions.begin() as session:
        session.execute(queries.publish(second.id, second.attempt))
        shown = list(session.scalars(queries.published(second.id)))

    assert [artifact.name for artifact in shown] == ["mine"]
    assert artifacts(sessions, State.READY) == {"mine"}


def test_a_checkpoint_that_was_not_wholly_written_is_never_published(
    sessions: sessionmaker[Session], job: Job
) -> None:
    announce(sessions, job, Kind.CHECKPOINT, "unwritten")

    with sessions.begin() as session, pytest.raises(IntegrityError):
        session.execute(queries.publish(job.id, job.attempt))


def test_the_snapshots_to_go_on_from_are_the_newest_two_of_the_latest_attempt_first(
    sessions: sessionmaker[Session], job: Job
) -> None:
    store(sessions, job, Kind.SNAPSHOT, "a1-90", step=90)
    second = again(sessions, job)
    store(sessions, second, Kind.SNAPSHOT, "a2-100", step=100)
    store(sessions, second, Kind.SNAPSHOT, "a2-80", step=80)
    announce(sessions, second, Kind.SNAPSHOT, "unwritten", step=110)

    with sessions() as session:
        found = [snapshot.name for snapshot in session.scalars(queries.snapshots(job.id))]

    assert found == ["a2-100", "a2-80"]


def test_snapshots_older_than_the_newest_two_are_given_up(
    sessions: sessionmaker[Session], job: Job
) -> None:
    for step in (9, 10, 8, 7):
        store(sessions, job, Kind.SNAPSHOT, str(step), step=step)
    store(sessions, job, Kind.LOG, "log")
    announce(sessions, job, Kind.SNAPSHOT, "unwritten", step=1)

    assert retire(sessions, queries.outdated(job.id)) == {"8", "7"}


def test_snapshots_of_other_jobs_are_not_counted(
    sessions: sessionmaker[Session], key: NewKey, job: Job
) -> None:
    submit(sessions, key.project_id)
    other = claim(sessions)
    for owner in (job, other):
        for step in (1, 2, 3):
            store(sessions, owner, Kind.SNAPSHOT, f"{owner.id}-{step}", step=step)

    assert retire(sessions, queries.outdated(job.id)) == {f"{job.id}-1"}


def test_what_an_attempt_was_writing_is_orphaned_once_it_runs_no_more(
    sessions: sessionmaker[Session], job: Job
) -> None:
    announce(sessions, job, Kind.SNAPSHOT, "lost")
    store(sessions, job, Kind.LOG, "log")
    announce(sessions, again(sessions, job), Kind.SNAPSHOT, "in flight")

    assert retire(sessions, queries.orphaned()) == {"lost"}


@pytest.mark.parametrize(
    ("move", "passed", "given_up"),
    [
        (SUCCEED, 0.0, {"snapshot"}),
        (FAIL, 0.0, set()),
        (FAIL, 2 * HOUR, {"snapshot"}),
        (CANCEL_RUNNING, 0.0, set()),
        (PAUSE_RUNNING, 2 * HOUR, set()),
        (REQUEUE, 2 * HOUR, set()),
        (None, 2 * HOUR, set()),
    ],
    ids=str,
)
def test_snapshots_are_kept_while_an_attempt_may_go_on_from_them(
    sessions: sessionmaker[Session],
    job: Job,
    move: Move | None,
    passed: float,
    given_up: set[str],
) -> None:
    store(sessions, job, Kind.SNAPSHOT, "snapshot")
    store(sessions, job, Kind.LOG, "log")
    asked = {CANCEL_RUNNING: moves.request_cancel, PAUSE_RUNNING: moves.request_pause}
    if move in asked:
        with sessions.begin() as session:
            session.scalars(asked[move](job.project_id, job.id)).one()
    if move:
        leave(sessions, move, job)
    let_pass(sessions, job.id, passed)

    which = queries.no_longer_needed(snapshot_seconds=HOUR)
    assert retire(sessions, which) == given_up


def test_all_of_a_deleted_job_is_given_up_once_nobody_runs_it(
    sessions: sessionmaker[Session], job: Job
) -> None:
    which = queries.no_longer_needed(snapshot_seconds=HOUR)
    for kind in Kind:
        store(sessions, job, kind, kind)
    delete(sessions, job)

    while_it_runs = retire(sessions, which)
    leave(sessions, CANCEL_RUNNING, job)

    assert while_it_runs == set()
    assert retire(sessions, which) == set(Kind)
    assert retire(sessions, which) == set()


def test_only_what_was_given_up_is_removed_and_forgotten(
    sessions: sessionmaker[Session], job: Job
) -> None:
    kept, given_up = (store(sessions, job, Kind.LOG, name) for name in ("kept", "given up"))
    retire(sessions, Artifact.id == given_up)

    with sessions.begin() as session:
        found = [artifact.name for artifact in session.scalars(queries.to_remove())]
        for artifact_id in (kept, given_up):
            session.execute(queries.forget(artifact_id))
        left = list(session.scalars(select(Artifact.name)))

    assert found == ["given up"]
    assert left == ["kept"]
