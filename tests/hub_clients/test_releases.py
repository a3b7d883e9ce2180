"""Older releases of huggingface_hub, each in an environment of its own: ``make hub-clients``.

The release that the suite has is tested in tests/app/hub. Making the environments needs PyPI.
"""

import hashlib
import json
import os
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.served import serve
from tests.hub_clients import client
from tests.jobs import SPEC, claim, submit
from tests.published import publish

RELEASES = ("0.36.0", "1.28.0")
LARGE = os.urandom(12 * client.MIB)
CUT_AFTER = 11 * client.MIB  # what a client has of a file is counted in pieces of ten megabytes


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def python(release: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with that release alone."""
    folder = tmp_path_factory.mktemp(release)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", f"huggingface_hub=={release}"]
    subprocess.run(install, check=True, timeout=600)
    return python


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name in ("dense", "packed"):
        folder = found[name] = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"format": name}), encoding="utf-8")
        (folder / "model.safetensors").write_bytes(name.encode() * 1000)
    (found["dense"] / "large.bin").write_bytes(LARGE)
    return found


@pytest.fixture
def told(
    python: Path,
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    folders: dict[str, Path],
    tmp_path: Path,
) -> Iterator[dict[str, Any]]:
    """What the client says that came of all it does; its first download of large.bin is cut."""
    submit(sessions, key.project_id, spec={**SPEC, "formats": list(folders)})
    job = claim(sessions)
    publish(sessions, settings, job, folders)
    unfinished = submit(sessions, key.project_id)
    with serve(create_app(settings)) as served:
        served.cut_path, served.cut_after = "/large.bin", CUT_AFTER
        arguments = [
            f"{served.url}/hf", key.key, f"jobs/{job.id}", f"jobs/{unfinished}", tmp_path / "cache"
        ]  # fmt: skip
        # Nothing of this interpreter's, and no hub that this host's user has.
        environ = {"PATH": os.environ["PATH"], "HF_HOME": str(tmp_path / "home")}
        ran = subprocess.run(
            [str(python), "-I", client.__file__, *map(str, arguments)],
            env=environ,
            stdout=subprocess.PIPE,
            timeout=300,
            check=True,
        )
        told: dict[str, Any] = json.loads(ran.stdout)
        yield {**told, "ranges": served.ranges}


def test_a_release_downloads_verifies_and_raises_what_it_should(
    release: str, told: dict[str, Any], folders: dict[str, Path]
) -> None:
    assert told["version"] == release
    assert told["cut"] == hashlib.sha256(LARGE).hexdigest()
    first, second, *_ = told["ranges"]
    assert (first, second is not None and second.startswith("bytes=1")) == (None, True)
    assert told["snapshot"] == {
        path.name: client.sha256(path) for path in folders["packed"].iterdir()
    }
    assert told["mismatches"] == (None if release.startswith("0.") else 0)
    assert bytes.fromhex(told["part"]) == LARGE[5 * client.MIB + 3 :][:1000]
    assert told["wrong token"] == told["no token"] == told["job"] == "RepositoryNotFoundError"
    assert told["unfinished"] == "GatedRepoError"
    assert told["revision"] == told["snapshot of no revision"] == "RevisionNotFoundError"
    assert told["file"] in ("EntryNotFoundError", "RemoteEntryNotFoundError")
