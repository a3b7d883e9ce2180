"""``pst serve`` as its user meets it: keys, second starts, odd folders."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.bucket import Bucket
from tests.e2e.service import Service, command

PST = [sys.executable, "-P", "-m", "app"]


def pst(
    *arguments: str,
    data: Path,
    cwd: Path | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PST, *arguments],
        env={**os.environ, **variables, "PST_DATA": str(data)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_second_serve_on_the_same_folder_says_so(service: Service) -> None:
    second = pst("serve", "--port", "0", data=service.data)

    assert second.returncode == 1
    assert "another `pst serve` uses" in second.stderr
    assert service.client.get("/readyz").json()["status"] == "ready"


def test_a_taken_port_is_named(service: Service, tmp_path: Path) -> None:
    port = service.url.rpartition(":")[2]

    second = pst("serve", "--port", port, data=tmp_path / "data")

    assert second.returncode == 1
    assert f"port {port}" in second.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("{", "PST_STORAGE_OPTIONS: must be a JSON object. "),
        ('{"bogus": "x"}', "PST_STORAGE_URL and PST_STORAGE_OPTIONS name no stora"),
        (None, "PST_STORAGE_URL and PST_STORAGE_OPTIONS are refused by the bucket"),
    ],
    ids=["no JSON", "no such option", "refused"],
)
def test_a_storage_that_cannot_be_is_told_once_and_nothing_is_started(
    tmp_path: Path, bucket: Bucket, options: str | None, told: str
) -> None:
    bucket.fail("403")
    ended = pst(
        *("serve", "--port", "0"),
        data=tmp_path / "data",
        variables={
            "PST_STORAGE_URL": "s3://checkpoints",
            "PST_STORAGE_OPTIONS": options or json.dumps(bucket.options),
        },
    )

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"pst: {told}")
    assert "orrect" in line, "and what to do"
    assert not (tmp_path / "data").exists()


def test_a_key_made_beside_a_running_service_is_let_in(service: Service) -> None:
    name = ("--name", "ci")
    made = pst("keys", "create", *name, "--json", data=service.data, variables=service.variables)

    new = json.loads(made.stdout)
    headers = {"Authorization": f"Bearer {new['key']}"}
    assert (new["name"], new["project"]) == ("ci", "default")
    assert service.client.get("/jobs", headers=headers).status_code == 200


def test_foreign_folders_named_like_ours_do_not_shadow_them(tmp_path: Path) -> None:
    for name in ("app", "worker", "pst_core", "migrations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('shadowed')")

    made = pst("keys", "create", "--name", "x", data=tmp_path / "data", cwd=tmp_path)
    upgraded = pst("db", "upgrade", data=tmp_path / "data", cwd=tmp_path)

    assert "shadowed" not in made.stderr + upgraded.stderr
    assert upgraded.returncode == 0


def test_the_api_listens_on_loopback_alone(service: Service) -> None:
    port = int(service.url.rpartition(":")[2])

    with socket.create_connection(("127.0.0.1", port), timeout=10):
        pass
    assert service.url.startswith("http://127.0.0.1:")


def test_a_jobs_worker_forks_no_copies_of_itself(service: Service) -> None:
    # A copy made while a thread imports waits for that import forever.
    workers = [process for process in service.processes() if "jobs" in command(process)]

    assert len(workers) == 1


def test_a_worker_of_an_unknown_queue_says_which_there_are(tmp_path: Path) -> None:
    refused = pst("worker", "--queues", "gpu", data=tmp_path / "data")

    assert refused.returncode == 2
    assert "jobs" in refused.stderr
    assert "maintenance" in refused.stderr
