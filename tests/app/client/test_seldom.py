"""What the client does with answers that are seldom: refusals, redirects, names that lead away."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artifacts.schemas import ArtifactList, ArtifactOut
from app.client import (
    Client,
    InvalidInputError,
    Patience,
    RefusedError,
    UnexpectedAnswerError,
)
from app.examples import SMALLEST
from app.jobs.schemas import JobCreate, ResolvedJob
from pst_core.spec import CompressionSpec
from tests.app.scripted import Reply, Scripted, scripted

__all__ = ["scripted"]

ARCHIVE = bytes(range(256)) * 40
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
CUT = 4000


@pytest.fixture
def client(scripted: Scripted) -> Iterator[Client]:
    with Client(scripted.url, "pst_key", patience=Patience(delay=0.01)) as client:
        yield client


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have waited."""
    waits: list[float] = []
    monkeypatch.setattr("app.client.retries.time.sleep", waits.append)
    return waits


def problem(status: int, kind: str, **headers: str) -> Reply:
    body = f'{{"type": "/problems/{kind}", "detail": "No."}}'.encode()
    return Reply(status, body, headers)


def artifacts(name: str = "job_x-packed.tar") -> ArtifactList:
    archive = ArtifactOut(name=name, format="packed", size=len(ARCHIVE), sha256=SHA256, files=[])
    return ArtifactList(data=[archive])


def test_what_a_later_service_tells_besides_is_passed_over(
    scripted: Scripted, client: Client
) -> None:
    spec = JobCreate.model_validate(SMALLEST)
    resolved = ResolvedJob(
        spec=CompressionSpec.model_validate(SMALLEST),
        hyperparameters=spec.resolved_hyperparameters(),
        placement=spec.placement,
        metadata={},
    )
    told = resolved.model_dump(mode="json")
    for document in (told, told["spec"], told["hyperparameters"], told["placement"]):
        document["later"] = 1
    scripted.will(Reply(body=json.dumps(told).encode()))

    assert client.jobs.validate(SMALLEST) == resolved


def test_a_used_up_quota_is_not_waited_for(
    scripted: Scripted, client: Client, waits: list[float]
) -> None:
    scripted.will(problem(429, "quota_exceeded"))

    with pytest.raises(RefusedError) as caught:
        client.jobs.act("job_x", "resume")

    assert not caught.value.may_pass
    assert waits == []


def test_a_rate_limit_is_waited_out_for_as_long_as_the_service_says(
    scripted: Scripted, client: Client, waits: list[float]
) -> None:
    limited = problem(429, "rate_limited", **{"Retry-After": "7"})
    scripted.will(limited, limited)
    scripted.will_tell(artifacts())

    assert client.jobs.artifacts("job_x") == artifacts().data
    assert waits == [7.0, 7.0]


def test_a_download_from_a_bucket_goes_on_under_the_tag_of_the_api(
    scripted: Scripted, client: Client, tmp_path: Path, waits: list[float]
) -> None:
    rest = f"bytes {CUT}-{len(ARCHIVE) - 1}/{len(ARCHIVE)}"
    scripted.will_tell(artifacts())
    scripted.will(
        Reply(307, headers={"Location": "/bucket"}),
        Reply(200, ARCHIVE, {"ETag": '"of-the-bucket"'}, cut_after=CUT),
        Reply(206, ARCHIVE[CUT:], {"Content-Range": rest}),
    )

    found = client.jobs.download("job_x", tmp_path, format_name="packed")

    _, headers = scripted.asked[-1]
    assert (headers["Range"], headers["If-Range"]) == (f"bytes={CUT}-", f'"{SHA256}"')
    assert found.path.read_bytes() == ARCHIVE
    assert len(waits) == 1


@pytest.mark.parametrize("name", ["../out.tar", "/out.tar", "a/b.tar", "..", "...tar", ".tar", ""])
def test_an_archive_whose_name_leads_away_is_refused(
    scripted: Scripted, client: Client, tmp_path: Path, name: str
) -> None:
    scripted.will_tell(artifacts(name))

    with pytest.raises(UnexpectedAnswerError, match="no plain file name"):
        client.jobs.download("job_x", tmp_path, format_name="packed")

    assert len(scripted.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_succeeds_while_its_checkpoint_is_looked_for_is_downloaded(
    scripted: Scripted, client: Client, tmp_path: Path
) -> None:
    scripted.will_tell(ArtifactList(data=[]))
    scripted.will(Reply(200, ARCHIVE))
    scripted.will_tell(artifacts())
    scripted.will(Reply(200, ARCHIVE))

    found = client.jobs.download("job_x", tmp_path, format_name="packed")

    assert found.path.read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    "url", ["http://h:port", "localhost:8000", "ftp://h", "http://", "http://h:99999"]
)
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInputError, match="no address"):
        Client(url, "pst_key")


@pytest.mark.parametrize("key", ["pst_…", "pst_a\nb"])
def test_a_key_that_no_header_can_have_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Client(key=key)

    assert key not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff"])
def test_a_value_that_json_has_not_is_refused_with_its_field(
    scripted: Scripted, client: Client, value: object
) -> None:
    with pytest.raises(InvalidInputError, match=r"^a\.1\.b: "):
        client.jobs.create({"a": [0, {"b": value}]})

    assert scripted.asked == []
