"""What the Hub's clients send and read, route by route."""

import hashlib
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.answers import comparable
from tests.jobs import claim
from tests.published import publish, stored_path

COMMIT = re.compile(r"[0-9a-f]{40}")


@pytest.fixture
def api_url(finished: Job) -> str:
    return f"/hf/api/models/jobs/{finished.id}"


@pytest.fixture
def files_url(finished: Job) -> str:
    return f"/hf/jobs/{finished.id}/resolve"


def test_a_file_is_the_checkpoints_with_commit_and_hash(
    client: TestClient, files_url: str, checkpoints: dict[str, Path]
) -> None:
    content = (checkpoints["packed"] / "model.safetensors").read_bytes()

    answer = client.get(f"{files_url}/packed/model.safetensors")

    assert answer.content == content
    assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert COMMIT.fullmatch(answer.headers["x-repo-commit"])
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in answer.headers


def test_head_has_all_that_a_client_keeps(client: TestClient, files_url: str) -> None:
    head = client.head(f"{files_url}/main/pst.json")
    whole = client.get(f"{files_url}/main/pst.json")

    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "x-repo-commit", "content-length"):
        assert head.headers[name] == whole.headers[name]


def test_a_dropped_download_goes_on(
    client: TestClient, files_url: str, checkpoints: dict[str, Path]
) -> None:
    content = (checkpoints["packed"] / "model.safetensors").read_bytes()

    answer = client.get(f"{files_url}/packed/model.safetensors", headers={"Range": "bytes=1000-"})

    assert (answer.status_code, answer.content) == (206, content[1000:])
    assert COMMIT.fullmatch(answer.headers["x-repo-commit"])


def test_main_is_dense(client: TestClient, files_url: str) -> None:
    assert client.get(f"{files_url}/main/pst.json").text == "dense"
    assert client.get(f"{files_url}/dense/pst.json").text == "dense"
    assert client.get(f"{files_url}/packed/pst.json").text == "packed"


def test_what_a_plain_client_cannot_load_is_told_with_its_files(
    client: TestClient, files_url: str
) -> None:
    warned = client.get(f"{files_url}/packed/pst.json").headers["x-hf-warning"]
    assert "`import pst_core`" in warned
    assert "x-hf-warning" not in client.get(f"{files_url}/main/pst.json").headers


def test_without_dense_main_is_what_was_asked_for_first(
    client: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    spec: dict[str, object],
    checkpoints: dict[str, Path],
) -> None:
    client.post("/jobs", json=spec | {"formats": ["onnx", "packed", "adapter"]})
    job = claim(sessions)
    # ONNX was refused.
    folders = {"adapter": checkpoints["dense"], "packed": checkpoints["packed"]}
    publish(sessions, settings, job, folders)

    assert client.get(f"/hf/jobs/{job.id}/resolve/main/pst.json").text == "packed"


def test_a_job_whose_formats_were_all_refused_has_no_revision(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, running: Job
) -> None:
    publish(sessions, settings, running, {})

    answer = client.get(f"/hf/api/models/jobs/{running.id}")

    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RevisionNotFound")
    assert client.get(f"/hf/api/models/jobs/{running.id}/refs").json()["branches"] == []


def test_a_commit_names_the_same_bytes_for_ever(client: TestClient, files_url: str) -> None:
    commit = client.head(f"{files_url}/packed/pst.json").headers["x-repo-commit"]

    answer = client.get(f"{files_url}/{commit}/pst.json")

    assert answer.text == "packed"
    assert answer.headers["x-repo-commit"] == commit
    assert client.head(f"{files_url}/main/pst.json").headers["x-repo-commit"] != commit


def test_model_info_names_task_commit_and_files(
    client: TestClient, api_url: str, finished: Job, checkpoints: dict[str, Path]
) -> None:
    info = client.get(api_url, params={"blobs": "true", "unknown": "1"}).json()

    assert info["id"] == info["modelId"] == f"jobs/{finished.id}"
    assert COMMIT.fullmatch(info["sha"])
    assert (info["private"], info["gated"], info["disabled"]) == (False, False, False)
    assert (info["pipeline_tag"], info["library_name"]) == ("text-classification", "transformers")
    assert info["createdAt"].endswith("Z")
    names = {sibling["rfilename"] for sibling in info["siblings"]}
    assert names == {path.name for path in checkpoints["dense"].iterdir()}


def test_model_info_of_a_revision_has_its_commit(client: TestClient, api_url: str) -> None:
    main, packed = (client.get(f"{api_url}/revision/{name}").json() for name in ("main", "packed"))

    assert main == client.get(api_url).json()
    assert main["sha"] != packed["sha"]
    assert client.get(f"{api_url}/revision/{packed['sha']}").json() == packed


def test_the_tree_has_every_files_size_and_hash(
    client: TestClient, api_url: str, checkpoints: dict[str, Path]
) -> None:
    tree = client.get(f"{api_url}/tree/packed", params={"recursive": "true"}).json()

    assert [entry["path"] for entry in tree] == sorted(
        path.name for path in checkpoints["packed"].iterdir()
    )
    for entry in tree:
        content = (checkpoints["packed"] / entry["path"]).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        assert (entry["type"], entry["size"]) == ("file", len(content))
        assert (entry["lfs"]["oid"], entry["lfs"]["size"]) == (sha256, len(content))
        assert COMMIT.fullmatch(entry["oid"])


def test_a_checkpoint_has_no_folders(client: TestClient, api_url: str) -> None:
    answer = client.get(f"{api_url}/tree/main/additional_chat_templates")

    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "EntryNotFound")
    assert client.get(f"{api_url}/tree/main/").json() == client.get(f"{api_url}/tree/main").json()


def test_paths_are_looked_up(client: TestClient, api_url: str) -> None:
    form = {"paths": ["pst.json", "nothing", "config.json"], "expand": "false"}

    found = client.post(f"{api_url}/paths-info/main", data=form).json()

    assert [entry["path"] for entry in found] == ["config.json", "pst.json"]


def test_refs_are_the_formats(client: TestClient, api_url: str) -> None:
    refs = client.get(f"{api_url}/refs").json()

    commits = {branch["name"]: branch["targetCommit"] for branch in refs["branches"]}
    assert sorted(commits) == ["dense", "main", "packed"]
    assert commits["main"] == commits["dense"] != commits["packed"]
    assert (refs["converts"], refs["tags"]) == ([], [])


PATHS = (
    "/hf/api/models/jobs/{}",
    "/hf/api/models/jobs/{}/refs",
    "/hf/api/models/jobs/{}/tree/main",
    "/hf/api/models/jobs/{}/revision/main",
    "/hf/jobs/{}/resolve/main/pst.json",
)


@pytest.mark.parametrize("path", PATHS)
def test_another_projects_job_looks_like_none(
    client: TestClient, finished: Job, foreign_key: NewKey, path: str
) -> None:
    headers = {"Authorization": f"Bearer {foreign_key.key}", "X-Request-ID": "same"}

    foreign = client.get(path.format(finished.id), headers=headers)
    unknown = client.get(path.format("job_0"), headers=headers)

    assert (foreign.status_code, foreign.headers["x-error-code"]) == (404, "RepoNotFound")
    assert comparable(foreign.headers) == comparable(unknown.headers)
    assert foreign.content == unknown.content


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_key_is_refused(client: TestClient, finished: Job, path: str) -> None:
    answer = client.get(path.format(finished.id), headers={"Authorization": "Bearer hf_secret"})

    assert (answer.status_code, answer.headers["x-error-code"]) == (401, "RepoNotFound")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (
        "HF_TOKEN"
        in answer.json()["error"]
        == answer.headers["x-error-message"].replace("?", "\u2026")
    )
    assert "hf_secret" not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_a_job_that_has_not_finished_is_gated(client: TestClient, running: Job, path: str) -> None:
    answer = client.get(path.format(running.id))

    assert (answer.status_code, answer.headers["x-error-code"]) == (403, "GatedRepo")
    assert "running" in answer.headers["x-error-message"]


@pytest.mark.parametrize("revision", ["step-5", "0" * 40, "refs/pr/1", "onnx", "%2e%2e"])
def test_an_unknown_revision_is_named(client: TestClient, api_url: str, revision: str) -> None:
    answer = client.get(f"{api_url}/revision/{quote(revision, safe='')}")

    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RevisionNotFound")
    assert "main, dense, packed" in answer.headers["x-error-message"]


def test_what_is_asked_for_never_breaks_a_header(client: TestClient, api_url: str) -> None:
    answer = client.get(f"{api_url}/tree/" + quote("\u202e\x1b[31m\x00é"))

    message = answer.headers["x-error-message"]
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RevisionNotFound")
    assert message.isascii()
    assert message.isprintable()


@pytest.mark.parametrize("name", ["model.bin", "a/b.json", "../pst.json", "naïve.txt", "x" * 9999])
def test_an_unknown_file_is_none_of_this_commit(
    client: TestClient, files_url: str, name: str
) -> None:
    answer = client.head(f"{files_url}/main/{quote(name, safe='')}")

    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "EntryNotFound")
    assert COMMIT.fullmatch(answer.headers["x-repo-commit"])


@pytest.mark.parametrize(
    "path",
    [
        "/hf/api/models/bert-base-uncased",
        "/hf/bert-base-uncased/resolve/main/config.json",
        "/hf/api/models/google/bert",
        "/hf/api/datasets/jobs/job_0",
        "/hf/api/models/jobs/%00",
        "/hf/nothing",
    ],
)
def test_what_is_no_job_is_no_repository(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RepoNotFound")


def test_a_damaged_file_is_told_in_the_hubs_way(
    client: TestClient,
    files_url: str,
    finished: Job,
    settings: Settings,
    sessions: sessionmaker[Session],
) -> None:
    stored = stored_path(sessions, settings, finished, "dense")
    stored.write_bytes(stored.read_bytes().replace(bytes(range(256)), bytes(256), 1))

    answer = client.get(f"{files_url}/main/model.safetensors")

    assert answer.status_code == 502
    assert "no longer what the job published" in answer.json()["error"]


@pytest.mark.parametrize(
    ("outcome", "warned"),
    [
        ({"gate": {"passed": False}}, True),
        ({"gate": {"passed": True}}, False),
        ({"gate": None}, False),
        ({}, False),
    ],
)
def test_a_missed_gate_is_told_with_every_answer(
    client: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    running: Job,
    checkpoints: dict[str, Path],
    outcome: dict[str, object],
    warned: bool,
) -> None:
    publish(sessions, settings, running, checkpoints, result={"outcome": outcome})

    for url in (
        f"/hf/jobs/{running.id}/resolve/main/config.json",
        f"/hf/api/models/jobs/{running.id}/tree/main",
        f"/hf/api/models/jobs/{running.id}",
    ):
        headers = client.get(url).headers
        assert ("quality-gate;" in headers.get("x-hf-warning", "")) is warned
