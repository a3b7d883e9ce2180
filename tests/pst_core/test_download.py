"""A checkpoint loads from the URL of a job; what is no checkpoint is refused and runs nothing."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pst_core.download import fetch
from pst_core.errors import CheckpointCorruptError, ModelNotFoundError


@contextmanager
def serving(body: bytes, status: int = 200) -> Iterator[tuple[str, list[str | None]]]:
    """A server that answers everything alike; its URL, and the keys it was shown."""
    keys: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not in the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jobs/job_1/checkpoint", keys
        server.shutdown()
        thread.join()


def tar_of(*members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 3 if kind == tarfile.REGTYPE else 0
    return info


def test_the_folder_in_the_tar_is_what_comes(tmp_path: Path) -> None:
    with serving(tar_of(member("job_1/config.json"), member("job_1/sub/a.bin"))) as (url, _):
        folder = fetch(url, tmp_path)
    assert folder == tmp_path / "job_1"
    assert (folder / "sub" / "a.bin").read_bytes() == b"xxx"
    assert [path.name for path in tmp_path.iterdir()] == ["job_1"]


def test_the_key_of_the_environment_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PST_API_KEY", "pst_secret")
    with serving(tar_of(member("a/b"))) as (url, keys):
        fetch(url, tmp_path)
    assert keys == ["Bearer pst_secret"]


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped"),
        member("a/../../escaped"),
        member("/absolute/file"),
        member("bare"),
        member("a/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("a/hard", tarfile.LNKTYPE, "a/b"),
        member("a/device", tarfile.CHRTYPE),
    ],
    ids=lambda info: info.name,
)
def test_a_tar_with_anything_but_files_in_its_folder_is_refused(
    tmp_path: Path, hostile: tarfile.TarInfo
) -> None:
    with (
        serving(tar_of(member("a/b"), hostile)) as (url, _),
        pytest.raises(CheckpointCorruptError, match="no plain file in a folder"),
    ):
        fetch(url, tmp_path)
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "is no tar"),
        (tar_of(), "holds 0 folders"),
        (tar_of(member("a/b"), member("c/d")), "holds 2 folders"),
        (tar_of(member("a/b"), member("a/b")), "'a/b' twice"),
    ],
    ids=["page", "empty", "two folders", "twice"],
)
def test_what_is_no_tar_of_one_folder_is_refused(tmp_path: Path, body: bytes, problem: str) -> None:
    with serving(body) as (url, _), pytest.raises(CheckpointCorruptError, match=problem):
        fetch(url, tmp_path)


def test_a_refusal_says_what_the_server_says(tmp_path: Path) -> None:
    with serving(b"no key", 401) as (url, _), pytest.raises(ModelNotFoundError) as caught:
        fetch(url, tmp_path)
    assert "401" in str(caught.value)
    assert "PST_API_KEY" in caught.value.remedy


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with serving(b"") as (url, _):
        pass
    with pytest.raises(ModelNotFoundError, match=r"127\.0\.0\.1.*cannot be downloaded"):
        fetch(url, tmp_path)
