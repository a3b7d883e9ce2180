"""Downloads by the client: whole whatever the network does, or not there."""

import hashlib
from pathlib import Path

import pytest

from app.client import Client, ClientError, CorruptDownloadError, Patience, RefusedError
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.app.served import Served
from tests.app.tampering import Way

MARK = b"what was published"


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 2000 + MARK)
    (folder / "pst.json").write_bytes(b"{}")
    return {"packed": folder, "dense": folder}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "here"
    target.mkdir()
    return target


def impatient(url: str, key: NewKey) -> Client:
    return Client(url, key.key, patience=Patience(first=0, outage=0))


def test_a_download_that_is_cut_again_and_again_is_whole(
    far: Client, way: Way, finished: Job, target: Path
) -> None:
    way.cuts = [200_000, 100_000, 50_000]
    told: list[tuple[int, int]] = []

    found = far.jobs.download(finished.id, target, told=lambda done, of: told.append((done, of)))

    assert way.connections == 4
    assert found.path == target / f"{finished.id}-packed.tar"
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256
    # It went on, and never began anew: each answer is told first by what is there before it.
    steps = [done for done, _ in told]
    assert steps == sorted(steps)
    assert len({done for done in steps if steps.count(done) > 1 and done}) == 3
    assert told[-1] == (found.size, found.size)
    assert [path.name for path in target.iterdir()] == [found.path.name]


def test_a_later_try_asks_for_the_rest_alone(
    served: Served, key: NewKey, finished: Job, target: Path
) -> None:
    served.cut_path, served.cut_after = "/checkpoint", 3000
    with impatient(served.url, key) as client:
        with pytest.raises(ClientError):
            client.jobs.download(finished.id, target)
        left = [path.stat().st_size for path in target.iterdir()]
        found = client.jobs.download(finished.id, target)

    assert left == [3000]
    assert served.ranges == [None, "bytes=3000-"]
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256


def test_what_is_there_already_is_not_fetched_again(
    served: Served, key: NewKey, finished: Job, target: Path
) -> None:
    with Client(served.url, key.key) as client:
        first = client.jobs.download(finished.id, target)
        served.cut_path = "/checkpoint"

        assert client.jobs.download(finished.id, target) == first
    assert served.ranges == []


def test_bytes_that_were_changed_are_refused_and_not_kept(
    far: Client, way: Way, finished: Job, target: Path
) -> None:
    way.change = lambda data: data.replace(MARK, MARK.upper())

    with pytest.raises(CorruptDownloadError, match="other bytes"):
        far.jobs.download(finished.id, target)

    assert list(target.iterdir()) == []


def test_a_damaged_beginning_is_found_and_fetched_anew(
    served: Served, key: NewKey, finished: Job, target: Path
) -> None:
    served.cut_path, served.cut_after = "/checkpoint", 3000
    with impatient(served.url, key) as client:
        with pytest.raises(ClientError):
            client.jobs.download(finished.id, target)
        (part,) = target.iterdir()
        part.write_bytes(b"x" * 3000)
        found = client.jobs.download(finished.id, target)

    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256


def test_an_archive_is_unpacked_in_its_own_place(
    far: Client, finished: Job, target: Path, checkpoints: dict[str, Path]
) -> None:
    found = far.jobs.download(finished.id, target, format_name="dense", unpack=True)

    assert [*target.iterdir()] == [found.path]
    assert found.path.name == f"{finished.id}-dense"
    for path in checkpoints["dense"].iterdir():
        assert (found.path / path.name).read_bytes() == path.read_bytes()


def test_a_job_that_has_not_succeeded_has_nothing_to_download(
    far: Client, running: Job, target: Path
) -> None:
    with pytest.raises(RefusedError) as caught:
        far.jobs.download(running.id, target)

    assert caught.value.kind == "job_not_succeeded"
    assert list(target.iterdir()) == []
