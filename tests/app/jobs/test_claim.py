"""The claim: who gets a job, which one, and on what device."""

import threading
from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.states import PAUSE_RUNNING, REQUEUE
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.jobs import bring_to, claim, event_types, leave, submit


def claim_on(
    sessions: sessionmaker[Session],
    device: Literal["cpu", "gpu"],
    memory_bytes: int | None = None,
) -> str | None:
    statement = moves.claim(worker="w", lease_seconds=30, device=device, memory_bytes=memory_bytes)
    with sessions.begin() as session:
        job = session.scalars(statement).one_or_none()
        return job.id if job else None


def test_second_claim_of_a_job_gets_nothing(sessions: sessionmaker[Session], key: NewKey) -> None:
    submit(sessions, key.project_id)
    claim(sessions)

    assert claim_on(sessions, "cpu") is None


def test_many_claimers_of_many_jobs_get_each_job_once(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    jobs = {submit(sessions, key.project_id) for _ in range(40)}
    claimed: list[str] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        while job_id := claim_on(sessions, "cpu"):
            claimed.append(job_id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == len(set(claimed))
    # A claimer that finds the next row locked may leave early; whoever holds it takes the next.
    assert set(claimed) == jobs


def test_a_claim_raises_the_attempt_and_writes_its_event(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)

    job = claim(sessions)

    assert (job.id, job.attempt, job.status) == (job_id, 1, "running")
    assert event_types(sessions, job_id) == ["queued", "started"]


@pytest.mark.parametrize("state", ["running", "paused", "succeeded", "failed", "cancelled"])
def test_only_a_queued_job_can_be_claimed(
    sessions: sessionmaker[Session], key: NewKey, state: str
) -> None:
    bring_to(sessions, key.project_id, state)

    with sessions() as session:
        assert session.scalar(moves.any_claimable()) is False
    assert claim_on(sessions, "cpu") is None


def test_a_job_that_is_made_to_wait_is_not_claimed_before_its_time(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    with sessions.begin() as session:
        later = moves.lease_end(3600)
        session.execute(update(Job).where(Job.id == job_id).values(not_before=later))

    with sessions() as session:
        assert session.scalar(moves.any_claimable()) is False
    assert claim_on(sessions, "cpu") is None


def test_higher_priority_goes_first_then_the_older(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    old = submit(sessions, key.project_id)
    young = submit(sessions, key.project_id)
    urgent = submit(sessions, key.project_id, priority=5)

    assert [claim(sessions).id for _ in range(3)] == [urgent, old, young]


def test_a_project_with_nothing_running_goes_before_one_that_has(
    sessions: sessionmaker[Session], key: NewKey, foreign_key: NewKey
) -> None:
    first = submit(sessions, key.project_id)
    submit(sessions, key.project_id)
    other = submit(sessions, foreign_key.project_id)

    assert [claim(sessions).id for _ in range(2)] == [first, other]


@pytest.mark.parametrize(
    ("placement", "takers"),
    [
        ({}, {"cpu", "gpu", "large gpu"}),
        ({"device": "cpu"}, {"cpu"}),
        ({"device": "gpu"}, {"gpu", "large gpu"}),
        # Of a device that does not know its memory, none can be promised.
        ({"memory_bytes": 2**35}, {"large gpu"}),
        ({"device": "cpu", "memory_bytes": 2**35}, set()),
    ],
)
def test_a_job_goes_only_to_a_device_that_it_was_placed_on(
    client: TestClient,
    sessions: sessionmaker[Session],
    spec: dict[str, object],
    placement: dict[str, Any],
    takers: set[str],
) -> None:
    job = client.post("/jobs", json={**spec, "placement": placement}).json()
    workers = {
        "cpu": moves.claim(worker="w", lease_seconds=30, device="cpu"),
        "gpu": moves.claim(worker="w", lease_seconds=30, device="gpu", memory_bytes=2**34),
        "large gpu": moves.claim(worker="w", lease_seconds=30, device="gpu", memory_bytes=2**35),
    }

    took = set()
    for name, statement in workers.items():
        with sessions.begin() as session:
            if claimed := session.scalars(statement).one_or_none():
                took.add(name)
        if claimed:
            leave(sessions, REQUEUE, claimed)

    assert job["placement"] == {"device": "any", "memory_bytes": None} | placement
    assert took == takers


def test_a_job_that_nobody_here_may_take_does_not_keep_others_waiting(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    elsewhere = submit(sessions, key.project_id, priority=9)
    here = submit(sessions, key.project_id)
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == elsewhere).values(device="gpu"))

    assert claim_on(sessions, "cpu") == here


def test_a_run_starts_with_its_first_attempt(sessions: sessionmaker[Session], key: NewKey) -> None:
    submit(sessions, key.project_id)
    first = claim(sessions)
    leave(sessions, PAUSE_RUNNING, first)

    assert claim(sessions).started_at == first.started_at
