"""What becomes of a posted sweep: which jobs it makes, and what is refused, all or nothing."""

from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.projects.service import NewKey
from app.sweeps.tables import Sweep
from tests.app.projects.test_quotas import set_quota
from tests.app.sweeps.conftest import TEMPLATE, Post
from tests.jobs import bring_to


def cells(sweep: dict[str, Any]) -> list[tuple[str, float | None, int]]:
    return [(job["method"], job["sparsity"], job["seed"]) for job in sweep["jobs"]]


def stored(sessions: sessionmaker[Session]) -> list[int | None]:
    with sessions() as session:
        return [session.scalar(select(func.count()).select_from(table)) for table in (Sweep, Job)]


def test_there_is_a_job_for_each_combination(post: Post) -> None:
    sweep = post(methods=["pst", "magnitude"], seeds=[1, 2])

    assert cells(sweep) == [
        (method, sparsity, seed)
        for seed in (1, 2)
        for method in ("pst", "magnitude")
        for sparsity in (0.5, 0.9)
    ]
    assert (sweep["status"], sweep["counts"]) == ("queued", {"queued": 8})
    assert all(one["id"] < other["id"] for one, other in pairwise(sweep["jobs"]))


def test_what_is_not_varied_is_the_specs(client: TestClient, post: Post) -> None:
    sweep = post(sparsities=[], spec={"sparsity": 0.7, "seed": 5, "metadata": {"team": "a"}})

    assert cells(sweep) == [("pst", 0.7, 5)]
    job = client.get(f"/jobs/{sweep['jobs'][0]['id']}").json()
    assert (job["sweep_id"], job["metadata"]) == (sweep["id"], {"team": "a"})


def test_of_what_prunes_nothing_there_is_one_job_for_each_seed(post: Post) -> None:
    spec = {"formats": ["packed", "dense"], "value_dtype": "bfloat16"}
    sweep = post(methods=["pst", "lora", "dense"], spec=spec)

    assert cells(sweep) == [("pst", 0.5, 0), ("pst", 0.9, 0), ("lora", None, 0), ("dense", None, 0)]


def test_one_dense_job_for_each_seed_is_the_baseline_of_its_others(
    client: TestClient, post: Post
) -> None:
    # Of all that, the yardstick itself takes nothing.
    spec = {
        "max_drop": 1.0,
        "exclude": ["*.mlp.*"],
        "hyperparameters": {"distillation": 0.5, "epochs": 1},
    }
    sweep = post(seeds=[1, 2], methods=["pst", "dense"], baseline="train", spec=spec)

    dense = [job for job in sweep["jobs"] if job["method"] == "dense"]
    assert cells(sweep)[:2] == [("dense", None, 1), ("dense", None, 2)]
    assert len(sweep["jobs"]) == 6
    of_seed = {job["seed"]: job["id"] for job in dense}
    for job in sweep["jobs"][2:]:
        assert job["waits_for"] == of_seed[job["seed"]]
        shown = client.get(f"/jobs/{job['id']}").json()
        assert shown["spec"]["baseline"] == of_seed[job["seed"]]
    assert {job["waits_for"] for job in dense} == {None}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sparsities": [0.5, 0.5]}, "sparsities"),
        ({"sparsities": [1.0]}, "sparsities.0"),
        ({"sparsities": []}, "spec.sparsity"),
        ({"seeds": list(range(33))}, "spec"),
        ({"max_parallel": 0}, "max_parallel"),
        ({"another": 1}, "another"),
        ({"spec": {**TEMPLATE, "sparsity": 0.1}}, "spec.sparsity"),
        ({"spec": {**TEMPLATE, "baseline": "train"}, "baseline": "train"}, "spec.baseline"),
        ({"spec": {**TEMPLATE, "seed": "x"}}, "spec.seed"),
        ({"spec": {**TEMPLATE, "method": ["pst"]}}, "spec.method"),
        ({"spec": {**TEMPLATE, "another": 1}}, "spec.another"),
        ({"spec": {**TEMPLATE, "model": "pkg:another"}}, "spec.model"),
        ({"spec": {**TEMPLATE, "max_drop": 1.0}}, "spec.max_drop"),
        ({"spec": {**TEMPLATE, "metadata": {"a": 1}}}, "spec.metadata.a"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field_and_nothing_is_stored(
    client: TestClient, sessions: sessionmaker[Session], body: dict[str, object], field: str
) -> None:
    answer = client.post("/sweeps", json={"spec": TEMPLATE, "sparsities": [0.5, 0.9]} | body)

    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert stored(sessions) == [0, 0]


def test_the_quota_is_for_all_of_its_jobs_or_none(
    client: TestClient, engine: Engine, sessions: sessionmaker[Session], key: NewKey
) -> None:
    set_quota(engine, key, max_queued_jobs=3)
    bring_to(sessions, key.project_id, "queued")
    body = {"spec": TEMPLATE, "sparsities": [0.5, 0.7, 0.9]}

    assert client.post("/sweeps", json=body).status_code == 429
    assert stored(sessions) == [0, 1]
    assert client.post("/sweeps", json=body | {"sparsities": [0.5, 0.7]}).status_code == 202


def test_the_same_idempotency_key_gets_the_same_sweep(
    client: TestClient, sessions: sessionmaker[Session]
) -> None:
    body = {"spec": TEMPLATE, "sparsities": [0.5, 0.9]}
    answers = [
        client.post("/sweeps", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]

    assert answers[0].content == answers[1].content
    assert answers[0].headers["Location"] == f"/sweeps/{answers[0].json()['id']}"
    assert stored(sessions) == [1, 2]


def test_its_jobs_are_a_list_of_their_own(
    client: TestClient, sessions: sessionmaker[Session], key: NewKey, post: Post
) -> None:
    bring_to(sessions, key.project_id, "queued")
    sweep = post()
    post()

    listed = client.get("/jobs", params={"sweep": sweep["id"]}).json()["data"]

    assert [job["id"] for job in listed] == [job["id"] for job in sweep["jobs"]][::-1]


def test_sweeps_are_listed_newest_first_page_by_page(client: TestClient, post: Post) -> None:
    made = [post(metadata={"n": str(number)}) for number in range(3)]

    first = client.get("/sweeps", params={"limit": 2}).json()
    second = client.get("/sweeps", params={"cursor": first["next_cursor"]}).json()

    assert [each["id"] for each in (*first["data"], *second["data"])] == [
        each["id"] for each in reversed(made)
    ]
    shown = {name: made[2][name] for name in first["data"][0]}
    assert first["data"][0] == shown
    assert shown["metadata"] == {"n": "2"}
