"""A machine that does to jobs, in any order, what owners, workers, sweeps and crashes do to them.

After each step the database must agree with the model in life_model.py, and the invariants hold.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import (
    Engine,
    Row,
    create_engine,
    delete,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import sessionmaker

from app.db import CONNECT_ARGS
from app.jobs import moves, queries, service
from app.jobs.changes import ChangedJobs
from app.jobs.moves import Backoff
from app.jobs.schemas import JobDetail
from app.jobs.states import (
    CANCEL_RUNNING,
    FAIL,
    PAUSE_RUNNING,
    REQUEUE,
    SUCCEED,
    Move,
    Status,
)
from app.jobs.tables import Job, JobEvent
from app.problems import Problem
from app.settings import Settings
from tests.app.jobs.life_checks import Pair, check_model, check_moved, look
from tests.app.jobs.life_model import (
    BACKOFF_SECONDS,
    LEASE_SECONDS,
    MAX_LOST,
    QUEUE_SECONDS,
    Held,
    Model,
    ModelJob,
)
from tests.jobs import SPEC, leave, let_pass, submit, wait_until_one_waits


async def retry(session: AsyncSession, project_id: str, job_id: str) -> JobDetail:
    return await service.retry(session, Settings(), project_id, job_id)


Action = Callable[[AsyncSession, str, str], Coroutine[Any, Any, object]]
Step = Callable[..., None]

MAX_JOBS = 6
LIMITED = {**SPEC, "limits": {"queue_seconds": int(QUEUE_SECONDS)}}
SWEEP = (CANCEL_RUNNING, PAUSE_RUNNING, FAIL, REQUEUE)
# No sum of them is a limit: real time passes besides.
WAITS = (4510.0, 710.0)
GIVE_BACK = (REQUEUE, PAUSE_RUNNING, CANCEL_RUNNING)
PICK = st.integers(0, 11)
DIES = st.sampled_from([False, False, False, True])
OWNER = st.sampled_from([True] * 7 + [False])


@dataclass
class World:
    """What the machines of one test share, and what they have done."""

    engine: Engine
    async_engine: AsyncEngine
    runner: asyncio.Runner
    threads: ThreadPoolExecutor
    projects: Sequence[str]
    steps: Counter[str] = field(default_factory=Counter)
    pairs: Counter[Pair] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)


@contextmanager
def world(url: str, projects: Sequence[str]) -> Iterator[World]:
    engine = create_engine(url, pool_size=3, connect_args=CONNECT_ARGS)
    async_engine = create_async_engine(url, pool_size=1, connect_args=CONNECT_ARGS)
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as threads:
        yield World(engine, async_engine, runner, threads, projects)
        runner.run(async_engine.dispose())
    engine.dispose()


def step(**arguments: Any) -> Callable[[Step], Step]:
    """A rule that is counted."""
    as_rule: Callable[[Step], Step] = rule(**arguments)

    def decorate(function: Step) -> Step:
        @wraps(function)
        def counted(self: "Life", **drawn: Any) -> None:
            self.world.steps[function.__name__] += 1
            function(self, **drawn)

        return as_rule(counted)

    return decorate


def when(condition: Callable[[Model], object]) -> Callable[[Any], Any]:
    def holds(machine: "Life") -> bool:
        return bool(condition(machine.model))

    return precondition(holds)


class Life(RuleBasedStateMachine):
    # Whatever a process would do after its next commit, it does no more.
    dies_after_commit = False

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.model = Model()
        self.rows: dict[str, Row[Any]] = {}
        self.events: dict[str, list[tuple[int, str]]] = {}

    @initialize(jobs=st.integers(3, 5), pausing=st.sampled_from([True, True, False]))
    def start(self, jobs: int, pausing: bool) -> None:
        with self.world.engine.begin() as connection:
            connection.execute(delete(JobEvent))
            connection.execute(delete(Job))
        for number in range(jobs):
            self._submit(number % 2, 0)
        # One stays in the queue, and one may be about to be paused.
        for _ in range(jobs - 1):
            self._claim()
        if pausing:
            self._act(self.model.where(Status.RUNNING), 0, True, service.pause, self.model.pause)

    def teardown(self) -> None:
        self.world.pairs.update(self.model.pairs)

    # What owners do.

    @when(lambda model: len(model.visible()) < MAX_JOBS)
    @step(project=st.integers(0, 1), priority=st.integers(0, 1))
    def submit(self, project: int, priority: int) -> None:
        self._submit(project, priority)

    def _submit(self, project: int, priority: int) -> None:
        owner = self.world.projects[project]
        job_id = submit(self.world.sessions, owner, priority=priority, spec=LIMITED)
        self.model.submit(ModelJob(job_id, owner, priority))

    @when(lambda model: model.jobs)
    @step(pick=PICK, owner=OWNER)
    def cancel(self, pick: int, owner: bool) -> None:
        jobs = self.model.where(Status.PAUSED)
        self._act(jobs, pick, owner, service.cancel, self.model.cancel)

    @when(lambda model: model.jobs)
    @step(pick=PICK, owner=OWNER)
    def pause(self, pick: int, owner: bool) -> None:
        jobs = self.model.where(Status.QUEUED)
        self._act(jobs, pick, owner, service.pause, self.model.pause)

    @when(lambda model: model.jobs)
    @step(pick=PICK, owner=OWNER)
    def resume(self, pick: int, owner: bool) -> None:
        jobs = self.model.where(Status.PAUSED)
        self._act(jobs, pick, owner, service.resume, self.model.resume)

    @when(lambda model: model.jobs)
    @step(pick=PICK, owner=OWNER)
    def retry(self, pick: int, owner: bool) -> None:
        jobs = self.model.where(Status.FAILED, Status.CANCELLED)
        self._act(jobs, pick, owner, retry, self.model.retry)

    @when(lambda model: len(model.visible()) > 2)
    @step(pick=PICK, owner=OWNER)
    def delete(self, pick: int, owner: bool) -> None:
        self._act([], pick, owner, service.delete, self.model.delete)

    def _act(
        self,
        likely: list[ModelJob],
        pick: int,
        owner: bool,
        action: Action,
        expect: Callable[[ModelJob], int],
    ) -> None:
        # Any job may be asked for anything; those that it is meant for come up more often.
        jobs = [*likely * 5, *self.model.jobs.values()]
        job = jobs[pick % len(jobs)]
        project = self.world.projects[(job.project == self.world.projects[0]) ^ owner]
        answer = self._answer(action, project, job.id)
        assert answer == (expect(job) if owner and not job.deleted else 404)

    def _answer(self, action: Action, project: str, job_id: str) -> int:
        async def send() -> int:
            async with AsyncSession(self.world.async_engine, expire_on_commit=False) as session:
                try:
                    await action(session, project, job_id)
                except Problem as problem:
                    return problem.status_code
                await session.commit()
                return 204 if action is service.delete else 202

        return self.world.runner.run(send())

    # What workers do.

    @when(lambda model: model.where(Status.QUEUED))
    @step(workers=st.integers(1, 2))
    def wake(self, workers: int) -> None:
        with self.world.sessions() as session:
            for _ in range(workers):
                assert session.scalar(moves.any_claimable()) is bool(self.model.claimable())

    @when(lambda model: model.where(Status.QUEUED))
    @step(dies=DIES)
    def claim(self, dies: bool) -> None:
        with self._dying(dies):
            self._claim()

    def _claim(self) -> None:
        claim = moves.claim(worker="w", lease_seconds=LEASE_SECONDS, device="cpu")
        with self.world.sessions.begin() as session:
            claimed = session.scalars(claim).one_or_none()
        expected = self.model.claim()
        assert (claimed and claimed.id) == (expected and expected.id)

    @when(Model.held)
    @step(pick=PICK)
    def renew(self, pick: int) -> None:
        job = self._held(pick)
        statement = moves.renew(job.id, job.attempt, lease_seconds=LEASE_SECONDS)
        with self.world.sessions.begin() as session:
            asked = session.execute(statement).one()
        job.lease = LEASE_SECONDS
        assert tuple(asked) == (job.cancel, job.pause)

    @when(Model.held)
    @step(pick=PICK)
    def record(self, pick: int) -> None:
        job = self._held(pick)
        with self.world.sessions.begin() as session:
            session.scalars(
                moves.record(job.id, job.attempt, "phase", {"phase": "x"}, phase="x")
            ).one()
        job.note("phase")

    @when(lambda model: [job for job in model.where(Status.RUNNING) if not job.cancel])
    @step(pick=PICK)
    def record_while_the_owner_asks(self, pick: int) -> None:
        jobs = [job for job in self.model.where(Status.RUNNING) if not job.cancel]
        job = jobs[pick % len(jobs)]
        ask = moves.withdraw_pause if job.pause else moves.request_pause
        with self.world.sessions.begin() as session:
            session.scalars(moves.record(job.id, job.attempt, "phase", {"phase": "x"})).one()
            asking = self.world.threads.submit(self._ask, ask(job.project, job.id))
            wait_until_one_waits(self.world.engine)
        assert asking.result() is not None
        job.note("phase")
        assert (self.model.resume if job.pause else self.model.pause)(job) == 202

    def _ask(self, statement: ChangedJobs) -> Job | None:
        with self.world.sessions.begin() as session:
            return session.scalars(statement).one_or_none()

    @when(Model.held)
    @step(pick=PICK, dies=DIES)
    def finish(self, pick: int, dies: bool) -> None:
        self._leave(pick, SUCCEED, dies)

    @when(Model.held)
    @step(pick=PICK, dies=DIES)
    def fail(self, pick: int, dies: bool) -> None:
        self._leave(pick, FAIL, dies)

    @when(Model.held)
    @step(pick=PICK, move=st.sampled_from(GIVE_BACK), dies=DIES)
    def give_back(self, pick: int, move: Move, dies: bool) -> None:
        self._leave(pick, move, dies)

    def _leave(self, pick: int, move: Move, dies: bool) -> None:
        job = self._held(pick, asked=move in GIVE_BACK)
        row = self._as_claimed((job.id, job.attempt))
        with self._dying(dies):
            left = leave(self.world.sessions, move, row)
        self.model.leave(job, move.target)
        assert left is not None
        assert left.status == job.status

    @when(Model.stale)
    @step(pick=PICK, move=st.sampled_from([SUCCEED, FAIL, *GIVE_BACK]))
    def write_as_an_earlier_attempt(self, pick: int, move: Move) -> None:
        stale = self.model.stale()
        held = stale[pick % len(stale)]
        assert leave(self.world.sessions, move, self._as_claimed(held)) is None
        with self.world.sessions.begin() as session:
            renewal = moves.renew(*held, lease_seconds=LEASE_SECONDS)
            assert session.execute(renewal).one_or_none() is None
            assert (
                session.scalars(moves.record(*held, "phase", {"phase": "x"})).one_or_none() is None
            )
            progress = queries.set_progress(*held, {}).returning(Job.id)
            assert session.scalar(progress) is None

    # What time does, and whoever sweeps after it.

    @when(Model.held)
    @step(pick=PICK, share=st.sampled_from([1.5, 0.6]), swept=st.booleans())
    def expire(self, pick: int, share: float, swept: bool) -> None:
        self._let_pass(self._held(pick), share * LEASE_SECONDS, swept)

    @when(lambda model: model.where(Status.QUEUED))
    @step(pick=PICK, seconds=st.sampled_from(WAITS), swept=st.booleans())
    def wait(self, pick: int, seconds: float, swept: bool) -> None:
        queued = self.model.where(Status.QUEUED)
        self._let_pass(queued[pick % len(queued)], seconds, swept)

    def _let_pass(self, job: ModelJob, seconds: float, swept: bool) -> None:
        let_pass(self.world.sessions, job.id, seconds)
        self.model.let_pass(job, seconds)
        if swept:
            self._sweep()

    @step(sweepers=st.integers(1, 2))
    def sweep(self, sweepers: int) -> None:
        for _ in range(sweepers):
            self._sweep()

    def _sweep(self) -> None:
        backoff = Backoff(BACKOFF_SECONDS, BACKOFF_SECONDS)
        statements = [moves.expire(move, max_lost=MAX_LOST, backoff=backoff) for move in SWEEP]
        swept: list[str] = []
        for statement in (*statements, moves.time_out_queued({"code": "queue_timeout"})):
            with self.world.sessions.begin() as session:
                swept += [job.id for job in session.scalars(statement)]
        assert sorted(swept) == sorted(self.model.sweep())

    @staticmethod
    @contextmanager
    def _dying(dies: bool) -> Iterator[None]:
        Life.dies_after_commit = dies
        try:
            yield
        finally:
            Life.dies_after_commit = False

    def _held(self, pick: int, *, asked: bool = False) -> ModelJob:
        running = self.model.where(Status.RUNNING)
        if asked:  # workers stop above all when they are told to
            running += [job for job in running if job.pause or job.cancel] * 3
        return running[pick % len(running)]

    @staticmethod
    def _as_claimed(held: Held) -> Job:
        return Job(id=held[0], attempt=held[1])

    # What must be true after each step.

    @invariant()
    def agrees_and_holds(self) -> None:
        rows, events = look(self.world.engine)
        for job in self.model.jobs.values():
            check_model(job, rows, events)
        for job_id, before in self.rows.items():
            check_moved(before, rows[job_id])
            kept = len(self.events[job_id])
            assert events[job_id][:kept] == self.events[job_id], "an event was rewritten"
        self.rows, self.events = rows, events
