"""One project floods the service, another posts one job."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from app.ids import new_id
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from pst_core.spec import CompressionSpec
from tests.jobs import SPEC, claim, leave

MANY = 3000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued_jobs": MANY})


@pytest.fixture
def flood(sessions: sessionmaker[Session], key: NewKey) -> set[str]:
    """As many waiting jobs as a project may have."""
    parsed = CompressionSpec.model_validate(SPEC)
    row = {
        "project_id": key.project_id,
        "spec": parsed.model_dump(mode="json"),
        "hyperparameters": parsed.resolved_hyperparameters().model_dump(mode="json"),
    }
    job_ids = [new_id("job") for _ in range(MANY)]
    with sessions.begin() as session:
        session.execute(insert(Job), [{"id": job_id, **row} for job_id in job_ids])
    return set(job_ids)


def bearer(key: NewKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.key}"}


def test_a_flood_is_capped_and_another_projects_job_starts_next(
    client: TestClient,
    sessions: sessionmaker[Session],
    flood: set[str],
    foreign_key: NewKey,
    spec: dict[str, object],
) -> None:
    running = claim(sessions)
    assert running.id in flood
    assert client.post("/jobs", json=spec).status_code == 202
    assert client.post("/jobs", json=spec).status_code == 429
    other = client.post("/jobs", json=spec, headers=bearer(foreign_key))
    assert other.status_code == 202

    # The one device there is gets free.
    leave(sessions, SUCCEED, running)
    started = [claim(sessions), claim(sessions)]

    assert other.json()["id"] in {job.id for job in started}


def test_a_free_device_takes_the_other_projects_job_first(
    client: TestClient,
    sessions: sessionmaker[Session],
    flood: set[str],
    foreign_key: NewKey,
    spec: dict[str, object],
) -> None:
    assert claim(sessions).id in flood
    other = client.post("/jobs", json=spec, headers=bearer(foreign_key)).json()

    assert claim(sessions).id == other["id"]
