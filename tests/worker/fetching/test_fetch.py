"""What comes from a hub is what it declares, and nothing that could run; whatever the hub does."""

import json
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from pst_core.errors import (
    DatasetGatedError,
    DatasetNotFoundError,
    HubUnavailableError,
    InvalidDatasetError,
    ModelGatedError,
    ModelNotFoundError,
    PstError,
    UnsupportedModelError,
)
from pst_core.events import DownloadEvent, Event, FetchedEvent
from tests.worker.fetching.hub import COMMIT, Answer, FakeHub, Handler, running
from worker.fetching import session
from worker.fetching.__main__ import Fetcher
from worker.fetching.cache import Cache
from worker.fetching.repository import Hub, Repository, What

TOKEN = "hf_of_the_operator"
HEADER = json.dumps({"w": {"dtype": "U8", "shape": [5000], "data_offsets": [0, 5000]}}).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(250)) * 20
MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running(FakeHub(files=dict(MODEL), lfs={"model.safetensors"})) as hub:
        session.use(hub.url)
        yield hub
    close_session()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def fetcher(hub: FakeHub, tmp_path: Path, events: list[Event]) -> Fetcher:
    return Fetcher(
        hub=Hub(endpoint=hub.url, token=TOKEN, waits=(0.0, 0.0)),
        cache=Cache(tmp_path / "cache", max_bytes=100_000),
        max_bytes=50_000,
        emit=events.append,
    )


def fetch(
    fetcher: Fetcher, folder: Path, *, what: What = "model", part: str | None = None
) -> FetchedEvent:
    return fetcher.fetch(Repository(what, "org/name", "main"), part, folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def status(code: int, headers: dict[str, str] | None = None) -> Answer:
    return lambda handler: handler.send(code, b"{}", headers)


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def test_a_model_is_fetched_as_of_the_commit_that_its_revision_is(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    fetched = fetch(fetcher, tmp_path / "model")

    assert fetched == FetchedEvent(what="model", commit=COMMIT)
    assert contents(tmp_path / "model") == MODEL
    assert hub.requests[0][0] == "/api/models/org/name/revision/main"
    assert {path for path, _ in hub.requests[2:]} == {
        f"/org/name/resolve/{COMMIT}/{path}" for path in MODEL
    }


def test_how_far_a_download_is_is_told(
    fetcher: Fetcher, tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.fetching.__main__.TELL_SECONDS", 0.0)
    fetch(fetcher, tmp_path / "model")

    total = sum(map(len, MODEL.values()))
    told = [event.bytes for event in events if isinstance(event, DownloadEvent)]
    assert told == sorted(told)
    assert events[-1] == DownloadEvent(what="model", bytes=total, total_bytes=total)


def test_what_was_fetched_cannot_be_written_to(fetcher: Fetcher, tmp_path: Path) -> None:
    fetch(fetcher, tmp_path / "model")

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == {0o444}


def test_neither_code_nor_pickles_nor_other_files_are_downloaded(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    strangers = (
        "pytorch_model.bin",
        "modeling.py",
        "onnx/model.onnx",
        "README.md",
        "x.safetensors",
    )
    hub.files |= dict.fromkeys(strangers, b"stranger")
    fetch(fetcher, tmp_path / "model")

    assert contents(tmp_path / "model") == MODEL
    assert not [path for path, _ in hub.requests if path.endswith(strangers)]


def test_shards_come_with_their_index(fetcher: Fetcher, hub: FakeHub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    shards = {f"model-0000{n}-of-00002.safetensors": WEIGHTS for n in (1, 2)}
    hub.files |= shards | {"model.safetensors.index.json": b"{}"}
    fetch(fetcher, tmp_path / "model")

    assert contents(tmp_path / "model") == hub.files


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_names_code_is_refused_before_its_weights_are_fetched(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path, name: str
) -> None:
    hub.files[name] = b'{"auto_map": {"AutoModel": "modeling.Net"}}'

    with pytest.raises(UnsupportedModelError, match="auto_map") as caught:
        fetch(fetcher, tmp_path / "model")

    assert caught.value.field == "model"
    assert not hub.seen("safetensors")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_without_weights_or_configuration_is_unsupported(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path, name: str
) -> None:
    del hub.files[name]
    hub.files["pytorch_model.bin"] = b"pickled"

    with pytest.raises(UnsupportedModelError, match="safetensors" if "model" in name else "config"):
        fetch(fetcher, tmp_path / "model")


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(os.system), b"PK\x03\x04" + bytes(50), b"no safetensors", WEIGHTS[:50], b""],
    ids=["pickle", "zip", "text", "cut", "empty"],
)
def test_what_is_only_called_safetensors_is_refused_and_not_kept(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path, content: bytes
) -> None:
    hub.files["model.safetensors"] = content

    with pytest.raises(UnsupportedModelError, match=r"model\.safetensors is"):
        fetch(fetcher, tmp_path / "model")

    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_pickle_that_is_called_rows_is_refused(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.files = {"rows.csv": pickle.dumps([1])}

    with pytest.raises(InvalidDatasetError, match="pickled") as caught:
        fetch(fetcher, tmp_path / "rows", what="dataset")

    assert caught.value.field == "dataset.ref"


@pytest.mark.parametrize(
    ("end", "answer", "model_error", "dataset_error"),
    [
        (
            "/main",
            status(404, {"X-Error-Code": "RepoNotFound"}),
            ModelNotFoundError,
            DatasetNotFoundError,
        ),
        (
            "/main",
            status(404, {"X-Error-Code": "RevisionNotFound"}),
            ModelNotFoundError,
            DatasetNotFoundError,
        ),
        ("/main", status(401), ModelNotFoundError, DatasetNotFoundError),
        ("/main", status(403, {"X-Error-Code": "GatedRepo"}), ModelGatedError, DatasetGatedError),
        ("/rows.csv", status(403), ModelGatedError, DatasetGatedError),
        ("/main", status(500), HubUnavailableError, HubUnavailableError),
        ("/main", status(429), HubUnavailableError, HubUnavailableError),
        ("/main", hang_up, HubUnavailableError, HubUnavailableError),
        ("/main", lambda hub: hub.send(200, b"<html>"), HubUnavailableError, HubUnavailableError),
        ("/main", status(200), HubUnavailableError, HubUnavailableError),
        (COMMIT, lambda hub: hub.send(200, b"[{}]"), HubUnavailableError, HubUnavailableError),
    ],
    ids=[
        "no-repository",
        "no-revision",
        "wrong-token",
        "gated",
        "gated-file",
        "500",
        "429",
        "hangs-up",
        "no-json",
        "no-commit",
        "no-tree",
    ],
)
def test_what_a_hub_refuses_is_a_failure_with_its_field(
    fetcher: Fetcher,
    hub: FakeHub,
    tmp_path: Path,
    end: str,
    answer: Answer,
    model_error: type[PstError],
    dataset_error: type[PstError],
) -> None:
    hub.files = {**MODEL, "rows.csv": b"a,b\n"}
    kinds: list[tuple[What, type[PstError], str]] = [
        ("model", model_error, "model"),
        ("dataset", dataset_error, "dataset.ref"),
    ]
    for what, error, field in kinds if end != "/rows.csv" else kinds[1:]:
        hub.instead[end] = [answer]
        with pytest.raises(error) as caught:
            fetch(fetcher, tmp_path / what, what=what)
        assert (caught.value.field, bool(caught.value.remedy)) == (field, True)


def test_a_hub_that_is_not_there_is_unavailable_and_worth_another_try(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.instead["/main"] = [hang_up]

    with pytest.raises(HubUnavailableError) as caught:
        fetch(fetcher, tmp_path / "model")

    assert caught.value.retryable


def test_a_hub_that_stays_silent_is_unavailable(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.instead["/main"] = [lambda _: time.sleep(1)]
    session.use(hub.url, timeout=0.1)

    with pytest.raises(HubUnavailableError, match="Timeout"):
        fetch(fetcher, tmp_path / "model")


def cut(handler: Handler) -> None:
    handler.send(200, WEIGHTS, cut_after=2000)


def test_a_download_that_is_cut_goes_on_where_it_was(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.instead["model.safetensors"] = [cut]
    fetch(fetcher, tmp_path / "model")

    assert contents(tmp_path / "model") == MODEL
    assert [each.get("range") for each in hub.seen("model.safetensors")] == [None, "bytes=2000-"]


def test_a_hub_without_ranges_starts_anew(fetcher: Fetcher, hub: FakeHub, tmp_path: Path) -> None:
    hub.instead["model.safetensors"] = [cut, lambda handler: handler.send(200, WEIGHTS)]
    fetch(fetcher, tmp_path / "model")

    assert contents(tmp_path / "model") == MODEL


@pytest.mark.parametrize(
    "answer",
    [status(500), status(429), hang_up, lambda handler: handler.send(200, WEIGHTS[:100])],
    ids=["500", "429", "hangs-up", "short"],
)
def test_a_file_is_tried_again_and_in_the_end_given_up(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path, answer: Answer
) -> None:
    hub.instead["model.safetensors"] = [answer] * 2
    fetch(fetcher, tmp_path / "model")
    assert contents(tmp_path / "model") == MODEL

    hub.instead["model.safetensors"] = [status(500)] * 3
    (kept,) = (tmp_path / "cache").glob("sha256-*")
    kept.unlink()
    with pytest.raises(HubUnavailableError, match=r"does not send model\.safetensors"):
        fetch(fetcher, tmp_path / "again")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"], ids=["lfs", "git"])
def test_other_bytes_than_declared_are_not_taken(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path, name: str
) -> None:
    other = MODEL[name][:-1] + b"?"
    hub.instead[name] = [lambda handler: handler.send(200, other)]

    with pytest.raises(HubUnavailableError, match="sent other bytes of"):
        fetch(fetcher, tmp_path / "model")

    kept = [path.read_bytes() for path in (tmp_path / "cache").iterdir()]
    assert other not in kept


def test_more_bytes_than_declared_are_not_taken(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.declared["model.safetensors"] = {"size": 100}

    with pytest.raises(HubUnavailableError, match=r"more of .* than the 100 bytes"):
        fetch(fetcher, tmp_path / "model")


def test_too_large_a_model_is_refused_before_anything_is_downloaded(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.declared["model.safetensors"] = {"size": 10**15}

    with pytest.raises(UnsupportedModelError, match="this service fetches 50000") as caught:
        fetch(fetcher, tmp_path / "model")

    assert "PST_HUB_MAX_BYTES" in caught.value.remedy
    assert len(hub.requests) == 2


def test_a_digest_that_is_a_path_is_refused(fetcher: Fetcher, hub: FakeHub, tmp_path: Path) -> None:
    hub.declared["tokenizer.json"] = {"digest": "../" * 13 + "x"}

    with pytest.raises(HubUnavailableError, match="something else than a hub"):
        fetch(fetcher, tmp_path / "model")


def test_files_that_lie_elsewhere_are_fetched_from_there_without_the_token(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    with running(FakeHub(files=dict(MODEL))) as store:
        there = f"{store.url}/a/b/resolve/main/model.safetensors?signed=1"
        hub.instead["model.safetensors"] = [status(302, {"Location": there})]
        fetch(fetcher, tmp_path / "model")

        assert contents(tmp_path / "model") == MODEL
        assert "authorization" not in store.seen("model.safetensors")[0]
    assert hub.seen("model.safetensors")[0]["authorization"] == f"Bearer {TOKEN}"


def test_a_redirect_to_other_bytes_is_of_no_use(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    with running(FakeHub(files={"model.safetensors": WEIGHTS[::-1]})) as store:
        there = f"{store.url}/a/b/resolve/main/model.safetensors"
        hub.instead["model.safetensors"] = [status(302, {"Location": there})]

        with pytest.raises(HubUnavailableError, match="sent other bytes"):
            fetch(fetcher, tmp_path / "model")


def test_a_redirect_to_a_file_of_this_host_is_not_followed(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.instead["model.safetensors"] = [status(302, {"Location": "file:///etc/passwd"})] * 3

    with pytest.raises(HubUnavailableError):
        fetch(fetcher, tmp_path / "model")


def test_a_hub_with_tls_cannot_send_us_where_there_is_none(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    session.use("https://hub.example")

    with pytest.raises(HubUnavailableError, match="UnsupportedProtocol"):
        fetch(fetcher, tmp_path / "model")

    assert hub.requests == []


def test_without_a_token_none_is_sent(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    anonymous = Fetcher(
        hub=Hub(endpoint=hub.url), cache=fetcher.cache, max_bytes=50_000, emit=fetcher.emit
    )
    fetch(anonymous, tmp_path / "model")

    assert not [headers for _, headers in hub.requests if "authorization" in headers]


@pytest.mark.parametrize(
    ("paths", "part", "expected", "file"),
    [
        (["data/train-00000-of-00001.parquet", "data/test.csv"], None, 2, None),
        (["train.csv", "test.csv", "readme.csv", "run.py"], None, 2, None),
        (["de/train.jsonl", "de/dev.jsonl", "de/test.jsonl", "train.csv"], "de", 3, None),
        (["reviews.csv", "load.py", "notes.txt"], None, 1, "reviews.csv"),
        (["data/reviews.tsv"], None, 1, "reviews.tsv"),
    ],
)
def test_of_a_dataset_the_splits_are_fetched_or_its_only_file(
    fetcher: Fetcher,
    hub: FakeHub,
    tmp_path: Path,
    paths: list[str],
    part: str | None,
    expected: int,
    file: str | None,
) -> None:
    hub.files = dict.fromkeys(paths, b"text,label\n")
    fetched = fetch(fetcher, tmp_path / "rows", what="dataset", part=part)

    assert fetched == FetchedEvent(what="dataset", commit=COMMIT, file=file)
    assert len(contents(tmp_path / "rows")) == expected


@pytest.mark.parametrize(
    "paths", [["a.csv", "b.csv"], ["load.py"], ["de/train.csv", "fr/train.csv"]]
)
def test_a_dataset_of_no_clear_shape_is_refused_with_its_folders(
    fetcher: Fetcher, hub: FakeHub, tmp_path: Path, paths: list[str]
) -> None:
    hub.files = dict.fromkeys(paths, b"text,label\n")

    with pytest.raises(InvalidDatasetError) as caught:
        fetch(fetcher, tmp_path / "rows", what="dataset")

    assert ("de, fr" if "de/train.csv" in paths else "none") in caught.value.remedy
