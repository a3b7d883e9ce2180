"""GET /jobs/{id}/report: what came out, or why there is nothing yet."""

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs import moves
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from pst_core.spec import CompressionSpec
from tests.reports import report


def test_a_finished_jobs_report_is_what_its_worker_stored(
    client: TestClient, sessions: sessionmaker[Session], running: Job
) -> None:
    result = report(CompressionSpec.model_validate(running.spec)).model_dump(mode="json")
    with sessions.begin() as session:
        for move in moves.leave_running(
            SUCCEED, running.id, running.attempt, values={"result": result}
        ):
            session.scalars(move).one_or_none()

    answer = client.get(f"/jobs/{running.id}/report")

    assert (answer.status_code, answer.json()) == (200, result)


def test_an_unfinished_job_has_no_report_and_says_how_it_stands(
    client: TestClient, running: Job
) -> None:
    answer = client.get(f"/jobs/{running.id}/report")

    assert answer.status_code == 409
    assert "running" in answer.json()["detail"]
