"""An estimate from the queue to its forecast, by the real child, on a real model."""

import os
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.backends import environment
from app.estimates import queries
from app.estimates.tables import Estimate, State
from app.ids import new_id
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import StorageError
from pst_core.forecast import Forecast
from pst_core.spec import CompressionSpec
from tests import datasets
from tests.bucket import Bucket
from tests.jobs import SPEC
from worker import estimator


def ask(sessions: sessionmaker[Session], project_id: str, spec: dict[str, Any]) -> str:
    estimate_id = new_id("est")
    document = CompressionSpec.model_validate(spec).model_dump(mode="json")
    with sessions.begin() as session:
        session.execute(queries.ask(estimate_id, project_id, document))
    return estimate_id


def row(sessions: sessionmaker[Session], estimate_id: str) -> Estimate:
    with sessions() as session:
        return session.scalars(select(Estimate).where(Estimate.id == estimate_id)).one()


def let_lease_end(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.execute(update(Estimate).values(lease_until=Estimate.created_at))


@pytest.mark.usefixtures("engine")
def test_without_an_estimate_there_is_nothing_to_do(settings: Settings) -> None:
    assert not estimator.estimate_next(settings)


def test_a_real_model_is_estimated_by_the_child(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    estimate_id = ask(sessions, key.project_id, SPEC)

    assert estimator.estimate_next(settings)

    found = row(sessions, estimate_id)
    assert found.status == State.READY, found.error
    forecast = Forecast.model_validate(found.forecast)
    assert (forecast.matrices, forecast.data.labels) == (36, 2)
    assert forecast.steps == 642
    assert list(settings.scratch_dir.iterdir()) == []


def test_what_a_job_would_fail_with_fails_its_estimate(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    estimate_id = ask(sessions, key.project_id, SPEC | {"hyperparameters": {"max_length": 1024}})

    estimator.estimate_next(settings)

    found = row(sessions, estimate_id)
    assert found.status == State.FAILED
    assert found.error is not None
    assert found.error["field"] == "hyperparameters.max_length"


def test_a_model_on_a_hub_is_not_fetched(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    estimate_id = ask(sessions, key.project_id, SPEC | {"model": "hub:org/name"})

    estimator.estimate_next(settings)

    found = row(sessions, estimate_id)
    assert found.error is not None
    assert found.error["code"] == "model_not_here"


def test_who_was_lost_is_followed_by_another(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    estimate_id = ask(sessions, key.project_id, SPEC | {"model": "hub:org/name"})
    with sessions.begin() as session:
        lost = session.scalars(queries.claim()).one()
    assert not estimator.estimate_next(settings)
    let_lease_end(sessions)

    assert estimator.estimate_next(settings)

    assert row(sessions, estimate_id).attempt == 2
    with sessions.begin() as session:
        session.execute(queries.finish(lost, {}))
    assert row(sessions, estimate_id).status == State.FAILED


def test_one_that_is_waited_for_comes_before_those_of_finished_jobs(
    sessions: sessionmaker[Session], key: NewKey
) -> None:
    from tests.jobs import bring_to, job_row

    job = job_row(sessions, bring_to(sessions, key.project_id, "succeeded"))
    with sessions.begin() as session:
        session.execute(queries.note(job, {"any": "thing"}))
    asked = ask(sessions, key.project_id, SPEC)

    with sessions.begin() as session:
        assert session.scalars(queries.claim()).one().id == asked
        assert session.scalars(queries.claim()).one().job_id == job.id


def test_data_that_was_uploaded_is_read(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    dataset = datasets.ready(sessions, settings, key.project_id)
    estimate_id = ask(sessions, key.project_id, SPEC | {"dataset": dataset.id})

    estimator.estimate_next(settings)

    found = row(sessions, estimate_id)
    assert found.status == State.READY, found.error
    assert Forecast.model_validate(found.forecast).data.labels == 2


@pytest.fixture
def remote(settings: Settings, bucket: Bucket) -> Settings:
    return bucket.settings(settings, storage_timeout_seconds=0.2)


@pytest.fixture
def withheld(remote: Settings, sessions: sessionmaker[Session], key: NewKey, bucket: Bucket) -> str:
    """An estimate whose data lies in a bucket that does not answer."""
    dataset = datasets.ready(sessions, remote, key.project_id)
    bucket.fail("503")
    return ask(sessions, key.project_id, SPEC | {"dataset": dataset.id})


def test_while_the_storage_is_away_an_estimate_is_tried_again_soon_and_then_fails_by_it(
    remote: Settings, sessions: sessionmaker[Session], withheld: str
) -> None:
    for attempt in range(1, queries.MAX_ATTEMPTS + 1):
        with pytest.raises(StorageError):
            estimator.estimate_next(remote)
        found = row(sessions, withheld)
        assert found.attempt == attempt
        if attempt < queries.MAX_ATTEMPTS:
            with sessions() as session:
                left = session.scalar(select(Estimate.lease_until - func.clock_timestamp()))
            assert found.status == State.RUNNING
            assert left is not None
            assert left.total_seconds() <= estimator.AGAIN_SECONDS
            let_lease_end(sessions)

    assert found.status == State.FAILED
    assert found.error is not None
    assert found.error["code"] == "storage_unavailable"
    assert list(remote.scratch_dir.iterdir()) == []


def test_an_estimate_is_worked_out_once_the_storage_is_back(
    remote: Settings, sessions: sessionmaker[Session], withheld: str, bucket: Bucket
) -> None:
    with pytest.raises(StorageError):
        estimator.estimate_next(remote)
    let_lease_end(sessions)

    bucket.heal()
    estimator.estimate_next(remote)

    found = row(sessions, withheld)
    assert found.status == State.READY, found.error


def test_the_process_says_that_it_could_not_and_shows_no_trace(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey
) -> None:
    dataset = datasets.ready(sessions, settings, key.project_id)
    ask(sessions, key.project_id, SPEC | {"dataset": dataset.id})
    away = {
        "PST_STORAGE_URL": "s3://bucket",
        # Nobody listens there.
        "PST_STORAGE_OPTIONS": '{"endpoint": "http://127.0.0.1:9", "region": "x", '
        '"access_key_id": "x", "secret_access_key": "xxxx", "allow_http": true}',
        "PST_STORAGE_TIMEOUT_SECONDS": "0.2",
        "PST_LOG_FORMAT": "text",
    }

    run = subprocess.run(
        [sys.executable, "-P", "-m", "worker.estimator"],
        env=os.environ | environment(settings) | away,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == os.EX_TEMPFAIL
    assert "try 1 was lost: The storage could not find it" in run.stderr
    assert "Traceback" not in run.stderr


def test_data_that_is_another_projects_fails_as_what_never_was(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey, foreign_key: NewKey
) -> None:
    dataset = datasets.ready(sessions, settings, foreign_key.project_id)
    estimate_id = ask(sessions, key.project_id, SPEC | {"dataset": dataset.id})

    estimator.estimate_next(settings)

    found = row(sessions, estimate_id)
    assert found.error is not None
    assert found.error["code"] == "dataset_not_found"
