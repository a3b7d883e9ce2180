"""Which of a sweep's jobs is taken under which constraints, and what its name leads to then."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from tests.app.served import Served
from tests.app.sweeps.conftest import Post, Succeed
from tests.jobs import claim
from tests.published import publish


@pytest.fixture
def sweep(post: Post, succeed: Succeed) -> dict[str, Any]:
    """A dense job of 160 bytes that scores 0.80, and pruned ones of which one is still to come."""
    sweep = post(sparsities=[0.3, 0.5, 0.7, 0.9], baseline="train")
    succeed(0.80)
    for value, packed in ((0.79, 120), (0.75, 90), (0.75, 90)):
        succeed(value, packed, baseline=0.80)
    return sweep


def pick(client: TestClient, sweep: dict[str, Any], **asked: object) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"/sweeps/{sweep['id']}/pick", params=asked).json()  # type: ignore[arg-type] # numbers and text
    return answer


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        ({}, 2),
        ({"min_metric": 0.76}, 1),
        # Of equals the older.
        ({"min_metric": 0.75}, 2),
        ({"min_metric": 0.795}, 0),
        ({"max_bytes": 120}, 1),
        ({"max_bytes": 119}, 2),
        ({"max_bytes": 1000}, 0),
        ({"max_bytes": 1000, "prefer": "smallest"}, 2),
        ({"max_drop": 1}, 1),
        ({"max_drop": 0}, 0),
        ({"max_drop": 5, "max_bytes": 100}, 2),
        ({"max_drop": 5, "prefer": "best"}, 0),
        ({"size_of": "dense"}, 0),
    ],
)
def test_the_smallest_or_best_that_satisfies_all_is_picked(
    client: TestClient, sweep: dict[str, Any], asked: dict[str, object], number: int
) -> None:
    picked = pick(client, sweep, **asked)

    assert picked["job"]["id"] == sweep["jobs"][number]["id"]
    assert picked["size"] == [160, 120, 90, 90][number]
    assert picked["drop"] == pytest.approx([0, 1, 5, 5][number])


@pytest.mark.parametrize(
    ("asked", "field", "detail"),
    [
        ({"min_metric": 0.9}, "min_metric", "min_metric: no job meets 0.9; {0} is nearest, and"),
        ({"max_bytes": 80}, "max_bytes", "max_bytes: no job meets 80; {2} is nearest, and misses"),
        ({"max_bytes": 80, "max_drop": 1}, "max_bytes", "misses it by 10."),
        (
            {"max_bytes": 100, "min_metric": 0.78},
            "min_metric",
            "min_metric: none that meets the others meets 0.78; {2} is nearest, and misses",
        ),
        (
            {"max_bytes": 100, "min_metric": 0.78},
            "min_metric",
            "max_bytes: none that meets the others meets 100; {1} is nearest, and misses it by 20.",
        ),
        ({"size_of": "compact", "max_bytes": 100}, "max_bytes", "misses it by 60."),
    ],
)
def test_what_nobody_satisfies_is_told_with_the_constraint_and_by_how_much(
    client: TestClient, sweep: dict[str, Any], asked: dict[str, object], field: str, detail: str
) -> None:
    answer = client.get(f"/sweeps/{sweep['id']}/pick", params=asked)  # type: ignore[arg-type] # numbers and text

    assert (answer.status_code, answer.json()["field"]) == (409, field)
    assert answer.json()["type"].endswith("nothing_fits")
    ids = [job["id"] for job in sweep["jobs"]]
    assert detail.format(*ids) in answer.json()["detail"]


def test_before_any_has_succeeded_there_is_nothing_to_pick(client: TestClient, post: Post) -> None:
    answer = client.get(f"/sweeps/{post()['id']}/pick")

    assert answer.status_code == 409
    assert "has succeeded" in answer.json()["detail"]


def test_without_a_baseline_no_job_satisfies_a_drop(
    client: TestClient, post: Post, succeed: Succeed
) -> None:
    sweep = post()
    succeed()

    assert "no job has a baseline" in pick(client, sweep, max_drop=5)["detail"]


def test_a_pick_is_kept_until_another_is_made(client: TestClient, sweep: dict[str, Any]) -> None:
    path = f"/sweeps/{sweep['id']}"
    assert client.get(path).json()["pick"] is None
    first = client.put(f"{path}/pick", json={"max_drop": 1}).json()["pick"]
    assert client.get(path).json()["pick"] == first
    second = client.put(f"{path}/pick", json={"job_id": sweep["jobs"][2]["id"]}).json()["pick"]

    ids = [job["id"] for job in sweep["jobs"]]
    assert (first["job_id"], second["job_id"]) == (ids[1], ids[2])
    assert first["constraints"] == {"max_drop": 1.0, "size_of": "packed"}
    assert second["constraints"] is None


def test_a_pick_that_is_deleted_is_none_any_more(client: TestClient, sweep: dict[str, Any]) -> None:
    picked = client.put(f"/sweeps/{sweep['id']}/pick", json={}).json()["pick"]
    client.delete(f"/jobs/{picked['job_id']}")

    assert client.get(f"/sweeps/{sweep['id']}").json()["pick"] is None


def test_only_a_job_of_the_sweep_that_has_succeeded_can_be_named(
    client: TestClient, sweep: dict[str, Any], post: Post
) -> None:
    unfinished, other = sweep["jobs"][4]["id"], post()["jobs"][0]["id"]

    def put(**body: object) -> int:
        return client.put(f"/sweeps/{sweep['id']}/pick", json=body).status_code

    assert put(job_id=unfinished) == 409
    assert put(job_id=other) == 422
    assert put(job_id=unfinished, max_bytes=1) == 422
    assert put(min_metric=0.99) == 409
    assert client.get(f"/sweeps/{sweep['id']}").json()["pick"] is None


@pytest.fixture
def hub(served: Served, key: NewKey) -> HfApi:
    return HfApi(f"{served.url}/hf", token=key.key)


def test_a_pick_is_a_repository_of_the_hub(
    client: TestClient,
    hub: HfApi,
    settings: Settings,
    sessions: sessionmaker[Session],
    post: Post,
    checkpoints: dict[str, Path],
    tmp_path: Path,
) -> None:
    sweep = post(spec={"formats": ["packed", "dense"]})
    name = f"sweeps/{sweep['id']}"
    with pytest.raises(GatedRepoError, match="No job was picked"):
        hub.model_info(name)
    jobs = [claim(sessions) for _ in range(2)]
    for number, job in enumerate(jobs):
        (checkpoints["dense"] / "empty.txt").write_text(f"{number}", encoding="utf-8")
        publish(sessions, settings, job, checkpoints)

    for number, job in enumerate(jobs):
        client.put(f"/{name}/pick", json={"job_id": job.id}).raise_for_status()
        info, of_the_job = hub.model_info(name), hub.model_info(f"jobs/{job.id}")
        folder = hub.snapshot_download(name, cache_dir=tmp_path / "cache")

        assert (info.id, info.sha) == (name, of_the_job.sha)
        assert (Path(folder) / "empty.txt").read_text(encoding="utf-8") == str(number)


def test_a_sweep_of_another_project_is_no_repository(
    served: Served, post: Post, foreign_key: NewKey
) -> None:
    name = f"sweeps/{post()['id']}"
    foreign = HfApi(f"{served.url}/hf", token=foreign_key.key)

    for each in (name, "sweeps/swp_" + "0" * 32):
        with pytest.raises(RepositoryNotFoundError):
            foreign.model_info(each)
