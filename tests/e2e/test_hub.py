"""One installation is the hub of another: a job compresses what another job has published there."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Service
from tests.pst_core import tiny

ROWS = "text,label\n" + "".join(
    f"{'good' if i % 2 else 'bad'} film {i},{i % 2}\n" for i in range(60)
)
SPEC: dict[str, Any] = {
    "model": "file:tiny",
    "dataset": "file:rows.csv",
    "sparsity": 0.5,
    "formats": ["dense", "packed"],
    "hyperparameters": {"epochs": 1, "batch_size": 16, "max_length": 16},
}


@pytest.fixture(scope="module")
def published(service: Service, shared_files: Path) -> dict[str, Any]:
    """A finished job of the installation that is the hub."""
    folder = shared_files / "tiny"
    folder.mkdir()
    tiny.save_model(folder)
    (shared_files / "rows.csv").write_text(ROWS, encoding="utf-8")
    job = service.finish(service.post(SPEC))
    assert job["status"] == "succeeded", job["error"]
    return job


@pytest.fixture(scope="module")
def other(
    service: Service, shared_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    other = Service(
        tmp_path_factory.mktemp("other") / "data",
        PST_FILE_ROOTS=str(shared_files),
        PST_HUB_ENDPOINT=f"{service.url}/hf",
        PST_HUB_TOKEN=service.key,
        PST_RENEW_SECONDS="1",
    )
    yield other
    assert other.stop() == []


def dense_archive(service: Service, job_id: str) -> dict[str, Any]:
    artifacts = service.client.get(f"/jobs/{job_id}/artifacts").json()["data"]
    (dense,) = [each for each in artifacts if each["format"] == "dense"]
    return dict(dense)


def test_a_job_compresses_the_checkpoint_of_another_over_the_hubs_protocol(
    service: Service, other: Service, published: dict[str, Any]
) -> None:
    reference = f"hub:jobs/{published['id']}"
    job = other.finish(other.post({**SPEC, "model": reference, "sparsity": 0.75}))

    assert job["status"] == "succeeded", job["error"]
    archive = dense_archive(service, published["id"])
    commit = archive["sha256"][:40]
    assert job["commits"] == {"model": commit}
    # What is told of the job from then on names the very bytes.
    assert job["result"]["outcome"]["spec"]["model"] == f"{reference}@{commit}"
    phases = [e["data"]["phase"] for e in other.events(job["id"]) if e["type"] == "phase"]
    worked = ["preparing", "training", "exporting", "verifying", "uploading"]
    assert phases == ["fetching", *worked]
    kept = {path.name.removeprefix("sha256-") for path in (other.data / "hub").iterdir()}
    there = {file["name"]: file["sha256"] for file in archive["files"]}
    assert {there["model.safetensors"], there["config.json"]} <= kept
    for path in (other.data / "hub").iterdir():
        assert f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}" == path.name
    assert service.key not in other.client.get(f"/jobs/{job['id']}/logs").text


@pytest.mark.usefixtures("published")
def test_a_job_starts_from_what_another_has_packed(service: Service) -> None:
    base = service.finish(service.post({**SPEC, "formats": ["packed"]}))
    job = service.finish(service.post({**SPEC, "model": base["id"], "sparsity": 0.75}))

    assert job["status"] == "succeeded", job["error"]
    assert (job["commits"], job["spec"]["model"]) == ({}, base["id"])


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("hub:jobs/job_00000000000000000000000000000000", "model_not_found"),
        ("hub:jobs/{job}@no-such-revision", "model_not_found"),
        ("hub:jobs/{unfinished}", "model_gated"),
    ],
)
def test_what_the_hub_does_not_give_fails_the_job_by_name(
    service: Service, other: Service, published: dict[str, Any], reference: str, code: str
) -> None:
    unfinished = service.post(SPEC)
    service.client.post(f"/jobs/{unfinished}/cancel")
    service.finish(unfinished)
    model = reference.format(job=published["id"], unfinished=unfinished)
    job = other.finish(other.post({**SPEC, "model": model}))

    assert (job["status"], job["error"]["code"]) == ("failed", code)
    assert (job["error"]["field"], bool(job["error"]["remedy"])) == ("model", True)
