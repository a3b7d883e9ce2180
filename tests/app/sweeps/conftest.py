"""Sweeps over HTTP, and jobs of theirs that end as a test wants, without training any."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from pst_core.report import Estimate
from pst_core.spec import CompressionSpec
from tests.app.conftest import SPEC
from tests.reports import report

TEMPLATE = {name: value for name, value in SPEC.items() if name != "sparsity"}
Post = Callable[..., dict[str, Any]]
Succeed = Callable[..., Job]


@pytest.fixture
def post(client: TestClient) -> Post:
    """Post a sweep of two sparsities, or of what a test changes."""

    def post(*, spec: Mapping[str, object] | None = None, **changes: object) -> dict[str, Any]:
        body = {"spec": {**TEMPLATE, **(spec or {})}, "sparsities": [0.5, 0.9], **changes}
        answer = client.post("/sweeps", json=body)
        assert answer.status_code == 202, answer.text
        sweep: dict[str, Any] = answer.json()
        return sweep

    return post


@pytest.fixture
def succeed(sessions: sessionmaker[Session]) -> Succeed:
    """Take the next job, and let it succeed with a score and a size."""

    def succeed(value: float = 0.5, packed: int = 90, *, baseline: float | None = None) -> Job:
        with sessions.begin() as session:
            claim = moves.claim(worker="test", device="cpu", lease_seconds=30)
            job = session.scalars(claim).one()
            result = outcome_of(job, value, packed, baseline)
            for statement in moves.leave_running(
                SUCCEED, job.id, job.attempt, values={"result": result}
            ):
                session.scalars(statement).all()
            return session.scalars(select(Job).where(Job.id == job.id)).one()

    return succeed


def outcome_of(job: Job, value: float, packed: int, baseline: float | None) -> dict[str, Any]:
    made = report(CompressionSpec.model_validate(job.spec)).outcome
    scores = made.evaluation.test
    estimate = Estimate(value=value, low=value - 0.01, high=value + 0.01)
    test = scores.model_copy(update={"metrics": {"accuracy": estimate}})
    other = scores.model_copy(
        update={"metrics": {"accuracy": Estimate(value=baseline or 0, low=None, high=None)}}
    )
    changes = {
        "evaluation": made.evaluation.model_copy(update={"test": test}),
        "baseline": made.evaluation.model_copy(update={"test": other}) if baseline else None,
        "bytes": {"dense": 160} if job.spec["method"] == "dense" else {"packed": packed},
    }
    return {"outcome": made.model_copy(update=changes).model_dump(mode="json")}
