"""Single files of a checkpoint, cut out of its archive."""

import hashlib
from email.message import Message
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.settings import Settings
from tests.published import stored_path

HOSTILE = [
    "./pst.json",
    "../pst.json",
    "%2e%2e/pst.json",
    "..%2fpst.json",
    "a\\..\\pst.json",
    "/etc/passwd",
    "pst.json\0",
    "x" * 10_000,
    "pst\uff0ejson",
    "PST.JSON",
]


@pytest.fixture
def url(finished: Job) -> str:
    return f"/jobs/{finished.id}/artifacts/packed"


def test_every_listed_file_can_be_had_alone(
    client: TestClient, finished: Job, checkpoints: dict[str, Path]
) -> None:
    for artifact in client.get(f"/jobs/{finished.id}/artifacts").json()["data"]:
        folder = checkpoints[artifact["format"]]
        assert len(artifact["files"]) == len(list(folder.iterdir()))
        for file in artifact["files"]:
            path = f"/jobs/{finished.id}/artifacts/{artifact['format']}/{quote(file['name'])}"
            answer = client.get(path)
            assert answer.content == (folder / file["name"]).read_bytes()
            assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
            assert answer.headers["etag"] == '"' + file["sha256"] + '"'
            assert client.head(path).headers["content-length"] == str(file["size"])


def test_a_part_of_a_file_is_not_of_its_neighbour(
    client: TestClient, url: str, checkpoints: dict[str, Path]
) -> None:
    content = (checkpoints["packed"] / "model.safetensors").read_bytes()

    answer = client.get(f"{url}/model.safetensors", headers={"Range": "bytes=2550-99999"})

    assert (answer.status_code, answer.content) == (206, content[2550:])
    assert answer.headers["content-range"] == "bytes 2550-2559/2560"


def test_a_range_past_the_files_end_is_refused(client: TestClient, url: str) -> None:
    answer = client.get(f"{url}/model.safetensors", headers={"Range": "bytes=2560-"})

    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */2560"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_looked_up_and_never_a_path(client: TestClient, url: str, name: str) -> None:
    answer = client.get(f"{url}/{quote(name, safe='')}")

    assert answer.status_code == 404


def test_an_odd_name_is_harmless_in_the_header(client: TestClient, url: str) -> None:
    answer = client.get(url + quote('/naïve "name".txt'))

    header = Message()
    header["Content-Disposition"] = answer.headers["content-disposition"]
    assert answer.content == b"text"
    assert header.get_filename() == "na_ve__name_.txt"


def test_damage_stops_the_file_it_is_in_and_the_archive(
    client: TestClient,
    url: str,
    finished: Job,
    settings: Settings,
    sessions: sessionmaker[Session],
) -> None:
    stored = stored_path(sessions, settings, finished, "packed")
    content = stored.read_bytes()
    stored.write_bytes(content.replace(bytes(range(256)), bytes(256), 1))

    assert client.get(f"{url}/model.safetensors").status_code == 502
    assert client.get(f"/jobs/{finished.id}/checkpoint").status_code == 502
    assert client.get(f"{url}/config.json").content == b"{}"


def test_a_file_that_is_not_in_the_checkpoint_is_none(client: TestClient, url: str) -> None:
    answer = client.get(f"{url}/model.bin")

    assert (answer.status_code, answer.json()["field"]) == (404, "name")


def test_an_unknown_format_is_refused(client: TestClient, finished: Job) -> None:
    answer = client.get(f"/jobs/{finished.id}/artifacts/zip/config.json")

    assert (answer.status_code, answer.json()["field"]) == (422, "format")


def test_a_running_job_has_no_files_yet(client: TestClient, running: Job) -> None:
    assert client.get(f"/jobs/{running.id}/artifacts/packed/config.json").status_code == 409
