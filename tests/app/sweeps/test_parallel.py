"""How many of a sweep's jobs run at once, against the real database, claims at once included."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves, turns
from app.jobs.states import REQUEUE
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.app.sweeps.conftest import Post
from tests.jobs import claim, leave, submit
from worker.supervisor import take

SPARSITIES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def any_claimable(sessions: sessionmaker[Session]) -> bool:
    with sessions() as session:
        return bool(session.scalar(moves.any_claimable("cpu")))


def test_no_more_run_than_the_sweep_allows_and_others_go_on(
    sessions: sessionmaker[Session], key: NewKey, post: Post
) -> None:
    sweep = post(sparsities=SPARSITIES, max_parallel=2)
    ours = {job["id"] for job in sweep["jobs"]}
    first, second = claim(sessions), claim(sessions)
    assert not any_claimable(sessions)
    other = submit(sessions, key.project_id)

    assert {first.id, second.id} < ours
    assert claim(sessions).id == other
    assert not any_claimable(sessions)
    leave(sessions, REQUEUE, first)
    assert claim(sessions).id in ours


def test_sweeps_do_not_count_each_others_jobs(sessions: sessionmaker[Session], post: Post) -> None:
    sweeps = [post(max_parallel=1)["id"] for _ in range(2)]

    assert {claim(sessions).sweep_id for _ in range(2)} == set(sweeps)
    assert not any_claimable(sessions)


def test_claims_at_once_do_not_pass_what_the_sweep_allows(
    sessions: sessionmaker[Session], post: Post
) -> None:
    post(sparsities=SPARSITIES, max_parallel=2)
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
    sessions: sessionmaker[Session], post: Post
) -> None:
    post(max_parallel=1)
    claims = [moves.claim(worker=name, device="cpu", lease_seconds=30) for name in "ab"]

    with sessions() as session:
        lock, may_run = turns.check(session.scalars(claims[0]).one(), 100)
        # It does not see what the first has claimed and not committed yet.
        assert take(sessions, claims[1], 100)
        session.execute(lock)
        assert session.scalar(may_run) is False
