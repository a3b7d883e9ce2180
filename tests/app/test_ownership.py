"""Whose a row is: each table says, and the database holds what belongs together to one project."""

import pytest
from sqlalchemy import Connection, Table, insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from app.estimates.tables import Estimate
from app.jobs.tables import Job, JobEvent, JobMetric
from app.projects.service import NewKey
from app.projects.tables import Project
from app.tables import Base
from app.webhooks.tables import WebhookDelivery
from tests.jobs import submit

TABLES = sorted(Base.metadata.tables.values(), key=str)


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_row_names_its_project(table: Table) -> None:
    assert "project_id" in table.columns or table is Project.__table__
    assert table is Project.__table__ or not table.columns["project_id"].nullable


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_what_refers_to_a_job_or_sweep_refers_to_its_project_too(table: Table) -> None:
    """By one key of both: with two of them, a row could name one project and another's job."""
    references = {
        (*constraint.column_keys, *(key.target_fullname for key in constraint.elements))
        for constraint in table.foreign_key_constraints
    }
    columns = (
        ("job_id", "jobs"),
        ("waits_for", "jobs"),
        ("sweep_id", "sweeps"),
        ("dataset_id", "datasets"),
        ("endpoint_id", "webhook_endpoints"),
    )

    assert {reference for reference in references if "projects.id" not in reference} == {
        ("project_id", column, f"{owner}.project_id", f"{owner}.id")
        for column, owner in columns
        if column in table.columns
    }


def test_what_refers_to_an_endpoint_refers_to_its_project_too() -> None:
    (reference,) = WebhookDelivery.__table__.foreign_key_constraints  # type: ignore[attr-defined]

    assert [key.target_fullname for key in reference.elements] == [
        "webhook_endpoints.project_id",
        "webhook_endpoints.id",
    ]


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (
            Estimate,
            {"id": "est_1", "spec": {}, "spec_sha256": b"", "measured": {}},
        ),
        (JobEvent, {"seq": 2, "attempt": 0, "type": "x", "data": {}}),
        (
            JobMetric,
            {
                "step": 1,
                "attempt": 1,
                "stage": "main",
                "loss": 1.0,
                "sparsity": 0.0,
                "learning_rate": 0.0,
            },
        ),
    ],
)
def test_nothing_can_be_written_to_another_projects_job(
    connection: Connection,
    sessions: sessionmaker[Session],
    key: NewKey,
    foreign_key: NewKey,
    table: type[Estimate | JobEvent | JobMetric],
    values: dict[str, object],
) -> None:
    job_id = submit(sessions, foreign_key.project_id)
    written = insert(table).values(job_id=job_id, **values)

    with pytest.raises(IntegrityError, match="project_id_job_id"), connection.begin():
        connection.execute(written.values(project_id=key.project_id))
    with connection.begin():
        connection.execute(written.values(project_id=foreign_key.project_id))


def test_a_job_keeps_its_project(
    connection: Connection, sessions: sessionmaker[Session], key: NewKey, foreign_key: NewKey
) -> None:
    submit(sessions, key.project_id)

    with pytest.raises(IntegrityError, match="project_id_job_id"), connection.begin():
        connection.execute(update(Job).values(project_id=foreign_key.project_id))
