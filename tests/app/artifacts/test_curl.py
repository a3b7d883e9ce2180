"""Downloads by curl and tar, as a shell script does them."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.app.served import Served

CURL = shutil.which("curl")
PARTIAL_FILE = 18  # curl's exit status


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_curl_resumes_and_tar_gives_what_the_list_promises(
    served: Served, finished: Job, key: NewKey, tmp_path: Path
) -> None:
    url = f"{served.url}/jobs/{finished.id}"
    served.cut_path, served.cut_after = "/checkpoint", 3000

    def curl(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
        header = f"Authorization: Bearer {key.key}"
        return subprocess.run(
            [str(CURL), "--silent", "--fail", "--noproxy", "*", "-H", header, *arguments],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )

    cut = curl("-o", "checkpoint.tar", f"{url}/checkpoint")
    resumed = curl("-C", "-", "-o", "checkpoint.tar", f"{url}/checkpoint")
    again = curl("-C", "-", "-o", "checkpoint.tar", f"{url}/checkpoint")
    subprocess.run(["tar", "xf", "checkpoint.tar"], cwd=tmp_path, check=True)  # noqa: S607

    assert (cut.returncode, resumed.returncode) == (PARTIAL_FILE, 0)
    assert served.ranges[:2] == [None, "bytes=3000-"]
    # There is nothing left to get (an error to some versions), and the file stays as it is.
    assert again.returncode in (0, 22)
    listed = json.loads(curl(f"{url}/artifacts").stdout)["data"]
    (artifact,) = (each for each in listed if each["format"] == "packed")
    archive = (tmp_path / "checkpoint.tar").read_bytes()
    assert hashlib.sha256(archive).hexdigest() == artifact["sha256"]
    assert len(artifact["files"]) == 5
    for file in artifact["files"]:
        content = (tmp_path / f"{finished.id}-packed" / file["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
