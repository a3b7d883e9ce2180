"""Clients nobody here wrote, against a real socket: huggingface_hub and transformers."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from sqlalchemy.orm import Session, sessionmaker
from transformers import AutoModelForSequenceClassification

from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from pst_core.formats.packed import write_packed
from tests.app.served import Served
from tests.jobs import SPEC, claim, submit
from tests.pst_core import tiny
from tests.published import publish

PRUNED = "bert.encoder.layer.0.output.dense.weight"
MIB = 1 << 20
WRONG = "pst_wrong"
HF_TOKEN = "hf_that_was_never_meant_for_us"
LOAD = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

name, revision = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(name, revision=revision)
tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
with torch.inference_mode():
    logits = model(**tokenizer("a lovely film", return_tensors="pt")).logits
print(json.dumps(logits[0].tolist()))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny classifier with a pruned matrix, in two formats; and bytes enough to be cut in two."""
    folder = tmp_path_factory.mktemp("models")
    dense = folder / "dense"
    tiny.classifier().save_pretrained(dense)
    tiny.save_tokenizer(dense, ends=True, segments=True)
    weights = load_file(dense / "model.safetensors")
    mask = weights[PRUNED].abs() > weights[PRUNED].abs().median()
    weights[PRUNED] = torch.where(mask, weights[PRUNED], 0.0)
    save_file(weights, dense / "model.safetensors", metadata={"format": "pt"})
    write_packed(dense, {PRUNED: mask.numpy()}, folder / "packed")
    # What a client has of a file is counted in pieces of ten megabytes.
    (dense / "large.bin").write_bytes(os.urandom(12 * MIB))
    return {"dense": dense, "packed": folder / "packed"}


@pytest.fixture
def job(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey, models: dict[str, Path]
) -> Job:
    spec = {**SPEC, "formats": list(models)}
    submit(sessions, key.project_id, spec=spec)
    job = claim(sessions)
    publish(sessions, settings, job, models, result={"outcome": {"gate": {"passed": False}}})
    return job


@pytest.fixture
def repo(job: Job) -> str:
    return f"jobs/{job.id}"


@pytest.fixture
def hub(served: Served, key: NewKey) -> HfApi:
    return HfApi(endpoint=f"{served.url}/hf", token=key.key)


def test_a_snapshot_is_the_checkpoint_and_verifies(
    hub: HfApi, repo: str, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(hub.snapshot_download(repo, revision="packed", cache_dir=tmp_path))

    assert contents(folder) == contents(models["packed"])
    verified = hub.verify_repo_checksums(repo, revision="packed", cache_dir=tmp_path)
    assert verified.checked_count == len(list(models["packed"].iterdir()))
    assert not verified.mismatches
    (folder / "config.json").resolve().write_bytes(b"{} ")
    again = hub.verify_repo_checksums(repo, revision="packed", cache_dir=tmp_path)
    assert [mismatch["path"] for mismatch in again.mismatches] == ["config.json"]


def test_a_cut_download_goes_on_where_it_was(
    hub: HfApi, served: Served, repo: str, models: dict[str, Path], tmp_path: Path
) -> None:
    served.cut_path, served.cut_after = "/large.bin", 11 * MIB

    path = Path(hub.hf_hub_download(repo, "large.bin", cache_dir=tmp_path))

    first, second = served.ranges
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 10_000_000
    assert path.read_bytes() == (models["dense"] / "large.bin").read_bytes()


def test_the_file_system_lists_and_reads(
    served: Served, key: NewKey, repo: str, models: dict[str, Path]
) -> None:
    files = HfFileSystem(endpoint=f"{served.url}/hf", token=key.key, skip_instance_cache=True)

    names = [Path(str(path)).name for path in files.ls(f"{repo}@packed", detail=False)]
    assert sorted(names) == sorted(path.name for path in models["packed"].iterdir())
    assert files.info(f"{repo}/large.bin")["size"] == 12 * MIB
    with files.open(f"{repo}/large.bin", "rb", block_size=MIB) as file:
        file.seek(5 * MIB + 3)
        found = file.read(1000)
    large = (models["dense"] / "large.bin").read_bytes()
    assert found == large[5 * MIB + 3 :][:1000]


def test_refs_and_infos_are_read(hub: HfApi, repo: str, models: dict[str, Path]) -> None:
    info, refs = hub.model_info(repo), hub.list_repo_refs(repo)

    assert hub.repo_exists(repo)
    assert hub.file_exists(repo, "config.json")
    assert not hub.file_exists(repo, "model.bin")
    assert info.pipeline_tag == "text-classification"
    commits = {branch.name: branch.target_commit for branch in refs.branches}
    assert commits["main"] == commits["dense"] == info.sha
    assert sorted(hub.list_repo_files(repo)) == sorted(contents(models["dense"]))
    (entry,) = hub.get_paths_info(repo, ["config.json", "nothing"])
    assert entry.path == "config.json"


Call = Callable[[HfApi, str], object]


@pytest.mark.parametrize(
    ("call", "error", "status"),
    [
        (lambda hub, repo: hub.hf_hub_download(repo, "no.txt"), EntryNotFoundError, 404),
        (lambda hub, repo: hub.model_info(repo, revision="v9"), RevisionNotFoundError, 404),
        (lambda hub, repo: hub.snapshot_download(repo, revision="v9"), RevisionNotFoundError, 404),
        (lambda hub, _: hub.model_info("jobs/job_0"), RepositoryNotFoundError, 404),
        (lambda hub, _: hub.hf_hub_download("gpt2", "a"), RepositoryNotFoundError, 404),
        (
            lambda hub, repo: hub.model_info(repo, token=WRONG),
            RepositoryNotFoundError,
            401,
        ),
        (lambda hub, repo: hub.model_info(repo, token=False), RepositoryNotFoundError, 401),
    ],
    ids=["file", "revision", "snapshot", "job", "other", "wrong-key", "no-key"],
)
def test_each_mistake_is_the_clients_own_exception(
    hub: HfApi, repo: str, call: Call, error: type[HfHubHTTPError], status: int
) -> None:
    with pytest.raises(error) as caught:
        call(hub, repo)

    assert caught.value.response.status_code == status


def test_an_unfinished_job_is_a_gated_repository(
    hub: HfApi, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)

    with pytest.raises(GatedRepoError, match="The job is queued"):
        hub.hf_hub_download(f"jobs/{job_id}", "config.json")


def test_keys_are_not_logged(
    hub: HfApi, key: NewKey, repo: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="uvicorn"):
        hub.model_info(repo)

    assert f"/hf/api/models/{repo}" in caplog.text
    assert key.key not in caplog.text


@pytest.mark.parametrize(("revision", "imports"), [("main", ""), ("packed", "import pst_core\n")])
def test_a_job_loads_by_its_name(
    served: Served,
    key: NewKey,
    repo: str,
    models: dict[str, Path],
    tmp_path: Path,
    revision: str,
    imports: str,
) -> None:
    variables = {"HF_ENDPOINT": f"{served.url}/hf", "HF_TOKEN": key.key, "HF_HOME": str(tmp_path)}

    loaded = subprocess.run(
        [sys.executable, "-c", imports + LOAD, repo, revision],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert loaded.returncode == 0, loaded.stderr
    model = AutoModelForSequenceClassification.from_pretrained(models["dense"])
    tokenizer = tiny.tokenizer(models["dense"])
    with torch.inference_mode():
        logits = model(**tokenizer("a lovely film", return_tensors="pt")).logits
    assert json.loads(loaded.stdout) == pytest.approx(logits[0].tolist(), abs=1e-5)
    assert "scores lower than its job allowed" in loaded.stderr


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("breaks", [False, True], ids=["as-it-should", "with-a-bug"])
def test_no_token_of_a_caller_is_logged(
    served: Served,
    repo: str,
    key: NewKey,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    breaks: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    if breaks:
        monkeypatch.setattr("app.hub.service.find_repo", lambda *_: 1 / 0)
    secrets = (key.key, WRONG, HF_TOKEN)
    statuses = [
        httpx.get(
            f"{served.url}/hf/{path}", headers={"Authorization": f"Bearer {secret}"}
        ).status_code
        for secret in secrets
        for path in (f"api/models/{repo}", f"{repo}/resolve/main/no.txt")
    ]

    assert statuses == [500 if breaks else 200, 500 if breaks else 404, 401, 401, 401, 401]
    assert f"/hf/api/models/{repo}" in caplog.text
    assert ("ZeroDivisionError" in caplog.text) == breaks
    for secret in (*secrets, key.key.split("_", 2)[2]):
        assert secret not in caplog.text
