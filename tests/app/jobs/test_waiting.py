"""A job that names another as its baseline waits for it, and does not wait in vain."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves, queries
from app.jobs.changes import ChangedJobs
from app.jobs.states import FAIL, SUCCEED
from app.projects.service import NewKey
from app.settings import Settings
from tests.jobs import SPEC, claim, event_types, job_row, leave, let_pass, submit
from worker.sweeper import QUEUE_TIMEOUT, Sweeper

DENSE = {"model": SPEC["model"], "dataset": SPEC["dataset"], "method": "dense"}


@pytest.fixture
def sweeper(settings: Settings) -> Sweeper:
    return Sweeper(settings)


@pytest.fixture
def dense(sessions: sessionmaker[Session], key: NewKey) -> str:
    return submit(sessions, key.project_id, spec=dict(DENSE))


@pytest.fixture
def behind(sessions: sessionmaker[Session], key: NewKey, dense: str) -> str:
    """One that would go first, if it did not wait."""
    spec = {**SPEC, "baseline": dense}
    return submit(sessions, key.project_id, spec=spec, waits_for=dense, priority=1)


def is_claimable(sessions: sessionmaker[Session]) -> bool:
    with sessions() as session:
        return bool(session.scalar(moves.any_claimable("cpu")))


def position(sessions: sessionmaker[Session], key: NewKey, job_id: str) -> int | None:
    which = {"project_id": key.project_id, "job_id": job_id}
    with sessions() as session:
        place: int | None = session.execute(queries.shown(), which).one()[2]
    return place


def refused(client: TestClient, **changes: object) -> dict[str, str]:
    answer = client.post("/jobs", json={**SPEC, **changes})
    assert answer.status_code == 422
    problem: dict[str, str] = answer.json()
    assert problem["field"] == "baseline"
    return problem


def test_it_is_taken_once_its_baseline_has_succeeded(
    sessions: sessionmaker[Session], dense: str, behind: str
) -> None:
    first = claim(sessions)
    assert first.id == dense
    assert not is_claimable(sessions)

    leave(sessions, SUCCEED, first)

    assert is_claimable(sessions)
    assert claim(sessions).id == behind


def test_it_has_no_place_in_the_queue_and_is_in_nobodys_way(
    sessions: sessionmaker[Session], key: NewKey, dense: str, behind: str
) -> None:
    assert [position(sessions, key, job_id) for job_id in (dense, behind)] == [1, None]

    leave(sessions, SUCCEED, claim(sessions))

    assert position(sessions, key, behind) == 1


def test_it_fails_with_a_baseline_that_fails_and_runs_after_both_were_retried(
    sessions: sessionmaker[Session], sweeper: Sweeper, key: NewKey, dense: str, behind: str
) -> None:
    leave(sessions, FAIL, claim(sessions))
    sweeper.sweep()

    job = job_row(sessions, behind)
    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "baseline_failed")
    assert dense in job.error["message"]
    assert event_types(sessions, behind) == ["queued", "failed"]

    with sessions.begin() as session:
        for job_id in (dense, behind):
            session.scalars(moves.retry(key.project_id, job_id)).one()
    sweeper.sweep()
    leave(sessions, SUCCEED, claim(sessions))
    assert claim(sessions).id == behind


@pytest.mark.parametrize("ended", [moves.cancel_waiting, moves.delete])
def test_it_fails_with_a_baseline_that_is_cancelled_or_deleted(
    sessions: sessionmaker[Session],
    sweeper: Sweeper,
    key: NewKey,
    dense: str,
    behind: str,
    ended: Callable[[str, str], ChangedJobs],
) -> None:
    with sessions.begin() as session:
        session.scalars(ended(key.project_id, dense)).one()
        session.scalars(moves.cancel_deleted(dense))
    # The second time it is gone altogether.
    for _ in range(2):
        sweeper.sweep()

    assert job_row(sessions, behind).status == "failed"
    assert not is_claimable(sessions)


def test_a_paused_one_fails_only_when_it_is_resumed(
    sessions: sessionmaker[Session], sweeper: Sweeper, key: NewKey, behind: str
) -> None:
    with sessions.begin() as session:
        session.scalars(moves.pause_queued(key.project_id, behind)).one()
    leave(sessions, FAIL, claim(sessions))
    sweeper.sweep()
    assert job_row(sessions, behind).status == "paused"

    with sessions.begin() as session:
        session.scalars(moves.resume(key.project_id, behind)).one()
    sweeper.sweep()
    assert job_row(sessions, behind).status == "failed"


def test_its_time_in_the_queue_counts_from_its_baselines_end(
    sessions: sessionmaker[Session], key: NewKey, dense: str
) -> None:
    spec = {**SPEC, "baseline": dense, "limits": {"queue_seconds": 100}}
    behind = submit(sessions, key.project_id, spec=spec, waits_for=dense)

    def time_out() -> list[str]:
        with sessions.begin() as session:
            return [job.id for job in session.scalars(moves.time_out_queued(QUEUE_TIMEOUT))]

    let_pass(sessions, behind, 1000)
    assert time_out() == []
    leave(sessions, SUCCEED, claim(sessions))
    assert time_out() == []
    let_pass(sessions, dense, 101)
    assert time_out() == [behind]


def test_a_job_can_be_posted_behind_one_that_still_trains(client: TestClient) -> None:
    dense = client.post("/jobs", json=DENSE).json()["id"]

    job = client.post("/jobs", json={**SPEC, "baseline": dense, "max_drop": 1.0}).json()

    assert (job["waits_for"], job["queue_position"]) == (dense, None)
    assert job["hyperparameters"]["distillation"] > 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "another seed"),
        ({"metric": "f1"}, "another metric"),
        ({"dataset": {"ref": SPEC["dataset"], "splits": {"test": 0.2}}}, "another dataset"),
        ({"hyperparameters": {"max_length": 17}}, "another hyperparameters.max_length"),
    ],
)
def test_a_baseline_of_something_else_is_refused_at_once(
    client: TestClient, changes: dict[str, object], named: str
) -> None:
    dense = client.post("/jobs", json=DENSE).json()["id"]
    problem = refused(client, baseline=dense, **changes)

    assert problem["type"].endswith("baseline_mismatch")
    assert named in problem["detail"]


def test_a_job_that_prunes_is_no_baseline(client: TestClient) -> None:
    pruned = client.post("/jobs", json=SPEC).json()["id"]

    assert "another method" in refused(client, baseline=pruned)["detail"]


@pytest.mark.parametrize("state", ["cancelled", "foreign", "none"])
def test_a_baseline_that_will_never_be_is_refused_the_same_way(
    client: TestClient, sessions: sessionmaker[Session], foreign_key: NewKey, state: str
) -> None:
    baseline = "job_" + "0" * 32
    if state == "cancelled":
        baseline = client.post("/jobs", json=DENSE).json()["id"]
        client.post(f"/jobs/{baseline}/cancel").raise_for_status()
    if state == "foreign":
        baseline = submit(sessions, foreign_key.project_id, spec=dict(DENSE))

    assert refused(client, baseline=baseline)["type"].endswith("baseline_not_found")


@pytest.mark.parametrize("baseline", ["another", "job_1", 1])
def test_what_names_no_baseline_is_refused(client: TestClient, baseline: object) -> None:
    assert refused(client, baseline=baseline)["type"].endswith("invalid_request")
