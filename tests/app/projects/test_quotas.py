"""Quotas: what a project may have waiting, running and stored, however many ask at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Artifact
from app.jobs import moves, submission, turns
from app.jobs.states import REQUEUE
from app.jobs.tables import Job
from app.projects import quotas
from app.projects.service import NewKey
from app.projects.tables import Project
from app.settings import Settings
from app.sweeps.schemas import MOST_JOBS
from tests.app.served import Served
from tests.jobs import bring_to, claim, leave, new_row, submit
from worker.supervisor import take


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued_jobs": 3, "max_stored_bytes": 1000})


def set_quota(engine: Engine, key: NewKey, **quota: int) -> None:
    with engine.begin() as connection:
        connection.execute(update(Project).where(Project.id == key.project_id).values(quota))


def refusal(client: TestClient, path: str, spec: dict[str, object] | None = None) -> dict[str, Any]:
    """The problem that a post is refused with."""
    answer = client.post(path, json=spec)
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["retry-after"]) > 0
    problem: dict[str, Any] = answer.json()
    assert problem["type"].endswith("quota_exceeded")
    return problem


def test_a_job_too_many_is_refused_with_the_quota_the_limit_and_the_remedy(
    client: TestClient, spec: dict[str, object]
) -> None:
    assert [client.post("/jobs", json=spec).status_code for _ in range(3)] == [202] * 3

    problem = refusal(client, "/jobs", spec)

    assert "queued_jobs: 3" in problem["detail"]
    assert "cancel some" in problem["remedy"]
    assert len(client.get("/jobs").json()["data"]) == 3


@pytest.mark.parametrize("state", ["running", "cancelled", "failed", "succeeded"])
def test_jobs_that_do_not_wait_do_not_count(
    client: TestClient,
    sessions: sessionmaker[Session],
    key: NewKey,
    spec: dict[str, object],
    state: str,
) -> None:
    for _ in range(3):
        bring_to(sessions, key.project_id, state)

    assert client.post("/jobs", json=spec).status_code == 202


def test_paused_jobs_wait_too(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, spec: dict[str, object]
) -> None:
    for _ in range(3):
        bring_to(sessions, key.project_id, "paused")

    refusal(client, "/jobs", spec)


def test_a_retry_beyond_the_quota_is_refused_and_changes_nothing(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    failed = bring_to(sessions, key.project_id, "failed")
    for _ in range(3):
        submit(sessions, key.project_id)

    refusal(client, f"/jobs/{failed}/retry")

    assert client.get(f"/jobs/{failed}").json()["status"] == "failed"


def test_a_job_sent_again_under_its_key_is_no_job_more(
    client: TestClient, spec: dict[str, object]
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = client.post("/jobs", json=spec, headers=headers).json()
    for _ in range(2):
        client.post("/jobs", json=spec)

    again = client.post("/jobs", json=spec, headers=headers)

    assert (again.status_code, again.json()["id"]) == (202, first["id"])


def test_another_projects_jobs_do_not_count(
    client: TestClient,
    sessions: sessionmaker[Session],
    foreign_key: NewKey,
    spec: dict[str, object],
) -> None:
    for _ in range(3):
        submit(sessions, foreign_key.project_id)

    assert client.post("/jobs", json=spec).status_code == 202


def test_posts_at_once_do_not_pass_the_quota_together(
    served: Served, key: NewKey, spec: dict[str, object], engine: Engine
) -> None:
    barrier = threading.Barrier(6)
    headers = {"Authorization": f"Bearer {key.key}"}

    def post(_: int) -> int:
        barrier.wait()
        answer = httpx.post(f"{served.url}/jobs", json=spec, headers=headers, trust_env=False)
        return answer.status_code

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(post, range(6)))

    assert answers == [202] * 3 + [429] * 3
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Job)) == 3


def far_quota(engine: Engine) -> int:
    """One that an empty project is just far from."""
    with engine.connect() as connection:
        return int(connection.scalar(text("SHOW max_connections"))) + MOST_JOBS + 1


def is_let_pass(session: Session, key: NewKey) -> bool:
    """Post a job in a transaction that goes on: is it let pass without a count?"""
    insertion = submission.submit(new_row(key.project_id), quotas.defaults(Settings()))
    return bool(session.execute(*insertion).mappings().one()["let_pass"])


def test_far_from_the_quota_no_post_waits_for_another(
    client: TestClient,
    engine: Engine,
    sessions: sessionmaker[Session],
    key: NewKey,
    spec: dict[str, object],
) -> None:
    set_quota(engine, key, max_queued_jobs=far_quota(engine) + 1)
    with sessions() as session:
        assert is_let_pass(session, key)

        # The other is neither undone nor committed.
        assert client.post("/jobs", json=spec).status_code == 202


def test_who_counts_waits_for_posts_that_did_not(
    engine: Engine, sessions: sessionmaker[Session], key: NewKey
) -> None:
    set_quota(engine, key, max_queued_jobs=far_quota(engine))
    counts = quotas.limits(), {"project_id": key.project_id}
    with sessions() as posting, sessions() as counting:
        assert is_let_pass(posting, key)
        counting.execute(text("SET LOCAL lock_timeout = '200ms'"))

        with pytest.raises(OperationalError, match="lock timeout"):
            counting.execute(*counts)
        counting.rollback()
        posting.commit()
        counting.execute(*counts)


@pytest.mark.parametrize("quota", ["max_queued_jobs", "max_stored_bytes"])
def test_a_post_that_is_near_one_quota_is_not_let_pass(
    engine: Engine, sessions: sessionmaker[Session], key: NewKey, quota: str
) -> None:
    bounds = {"max_queued_jobs": far_quota(engine), "max_stored_bytes": 1}
    set_quota(engine, key, **bounds | {quota: bounds[quota] - 1})

    with sessions() as session:
        assert not is_let_pass(session, key)


def test_while_somebody_counts_no_post_is_let_pass(
    engine: Engine, sessions: sessionmaker[Session], key: NewKey
) -> None:
    set_quota(engine, key, max_queued_jobs=far_quota(engine))
    with sessions() as counting, sessions() as session:
        counting.execute(quotas.limits(), {"project_id": key.project_id})

        assert not is_let_pass(session, key)


def test_posts_at_once_do_not_pass_a_quota_that_they_come_to(
    served: Served, engine: Engine, key: NewKey, spec: dict[str, object]
) -> None:
    most = far_quota(engine) + 3
    set_quota(engine, key, max_queued_jobs=most)
    headers = {"Authorization": f"Bearer {key.key}"}

    def post(_: int) -> int:
        answer = httpx.post(f"{served.url}/jobs", json=spec, headers=headers, trust_env=False)
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(most + 8)))

    assert (answers.count(202), answers.count(429)) == (most, 8)


def test_a_project_that_stores_too_much_can_post_nothing_more(
    client: TestClient, sessions: sessionmaker[Session], finished: Job, spec: dict[str, object]
) -> None:
    assert finished.status == "running"  # as it was claimed
    with sessions() as session:
        stored = session.scalar(select(func.sum(Artifact.size)))

    problem = refusal(client, "/jobs", spec)

    assert f"stored_bytes: the project stores {stored} bytes, of 1000" in problem["detail"]
    assert "Delete jobs" in problem["remedy"]


def test_a_project_may_have_a_quota_of_its_own(
    client: TestClient, engine: Engine, key: NewKey, spec: dict[str, object]
) -> None:
    set_quota(engine, key, max_queued_jobs=1)

    assert client.post("/jobs", json=spec).status_code == 202
    assert "queued_jobs: 1" in refusal(client, "/jobs", spec)["detail"]


def test_what_a_project_may_not_run_yet_waits_and_others_go_first(
    engine: Engine, sessions: sessionmaker[Session], key: NewKey, foreign_key: NewKey
) -> None:
    set_quota(engine, key, max_running_jobs=1)
    first, second = (submit(sessions, key.project_id) for _ in range(2))
    claimed = claim(sessions)
    with sessions() as session:
        assert session.scalar(moves.any_claimable("cpu")) is False
    others = [submit(sessions, foreign_key.project_id) for _ in range(2)]

    assert claimed.id == first
    assert [claim(sessions).id for _ in range(2)] == others
    with sessions() as session:
        assert session.scalar(moves.any_claimable("cpu")) is False
    leave(sessions, REQUEUE, claimed)
    assert claim(sessions).id in (first, second)


def test_the_settings_quota_of_running_jobs_holds_where_a_project_has_none(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    for _ in range(2):
        submit(sessions, key.project_id)
    limited = moves.claim(worker="w", device="cpu", lease_seconds=30, max_running=1)

    assert take(sessions, limited, max_running=1)
    assert take(sessions, limited, max_running=1) is None


def test_claims_at_once_do_not_pass_the_quota_together(
    engine: Engine, sessions: sessionmaker[Session], key: NewKey
) -> None:
    set_quota(engine, key, max_running_jobs=2)
    for _ in range(8):
        submit(sessions, key.project_id)
    barrier = threading.Barrier(6)

    def work(number: int) -> Job | None:
        claim = moves.claim(worker=f"w{number}", device="cpu", lease_seconds=30)
        barrier.wait()
        return take(sessions, claim, max_running=100)

    for _ in range(5):
        with ThreadPoolExecutor(6) as pool:
            took = [job for job in pool.map(work, range(6)) if job]
        assert len(took) == 2
        for job in took:
            leave(sessions, REQUEUE, job)


def test_of_two_claims_at_once_the_one_that_asks_last_gives_way(
    engine: Engine, sessions: sessionmaker[Session], key: NewKey
) -> None:
    set_quota(engine, key, max_running_jobs=1)
    for _ in range(2):
        submit(sessions, key.project_id)
    claims = [moves.claim(worker=name, device="cpu", lease_seconds=30) for name in "ab"]

    with sessions() as session:
        lock, may_run = turns.check(session.scalars(claims[0]).one(), 100)
        # It does not see what the first has claimed and not committed yet.
        assert take(sessions, claims[1], 100)
        session.execute(lock)
        assert session.scalar(may_run) is False
