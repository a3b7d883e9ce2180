"""Requests are counted and timed by what they ask for, never by what callers made up."""

import json
import logging
import re
from logging.handlers import QueueHandler
from queue import Queue

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.db import async_engine
from app.jobs import service
from app.jobs.tables import Job
from app.projects.service import NewKey
from tests.app.served import Served
from tests.app.telemetry.scraping import families, samples

COUNT = "pst_http_requests_total"
NAME = re.compile(r"(pst|process)_[a-z_]+")


def test_a_request_is_counted_by_method_route_and_status(
    api: FastAPI, client: TestClient, finished: Job
) -> None:
    client.get(f"/jobs/{finished.id}")
    client.get("/jobs/job_of_nobody")

    counted = samples(api.state.registry, COUNT)
    assert counted["GET", "/jobs/{job_id}", "200"] == 1
    assert counted["GET", "/jobs/{job_id}", "404"] == 1


def test_what_nobody_expected_is_counted_as_a_fault_of_the_service(
    api: FastAPI, key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "look", None)

    with TestClient(api, raise_server_exceptions=False) as client:
        answer = client.get("/jobs/job_x", headers={"Authorization": f"Bearer {key.key}"})

    assert answer.status_code == 500
    assert samples(api.state.registry, COUNT)["GET", "/jobs/{job_id}", "500"] == 1


def test_a_request_is_timed_by_method_and_route(api: FastAPI, client: TestClient) -> None:
    client.get("/jobs")

    timed = samples(api.state.registry, "pst_http_request_duration_seconds_count")
    assert timed["GET", "/jobs"] == 1


def test_a_mounted_route_is_told_with_where_it_is_mounted(
    api: FastAPI, client: TestClient, finished: Job
) -> None:
    client.get(f"/hf/api/models/jobs/{finished.id}")

    routes = {route for _, route, _ in samples(api.state.registry, COUNT)}
    assert [route for route in routes if route.startswith("/hf/")] != []
    assert not any(finished.id in route for route in routes)


@pytest.mark.parametrize("path", ["/no/such/path-1", "/jobs%0aX", "/hf/no/such"])
def test_paths_that_are_none_of_ours_share_one_series(
    api: FastAPI, client: TestClient, path: str
) -> None:
    client.get(path)
    client.get(f"{path}x")

    assert set(samples(api.state.registry, COUNT)) == {("GET", "other", "404")}


def test_methods_that_are_none_share_one_series(api: FastAPI, client: TestClient) -> None:
    client.request("BREW", "/jobs")
    client.request("BOIL", "/jobs")

    methods = {method for method, _, _ in samples(api.state.registry, COUNT)}
    assert methods == {"other"}


def test_what_is_refused_before_any_route_is_counted_too(api: FastAPI, client: TestClient) -> None:
    client.post("/jobs", content="{", headers={"Content-Type": "application/json"})

    assert sum(samples(api.state.registry, COUNT).values()) == 1


def test_nothing_is_under_way_once_all_is_answered(api: FastAPI, client: TestClient) -> None:
    client.get("/jobs")

    assert samples(api.state.registry, "pst_http_requests_in_progress") == {(): 0}


def test_a_request_is_one_line_of_the_log_without_its_path_or_key(
    client: TestClient, finished: Job, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "app.access"):
        client.get(f"/jobs/{finished.id}?wait=0", headers={"X-Request-ID": "mine"})

    (record,) = [record for record in caplog.records if record.name == "app.access"]
    fields = vars(record)["fields"]
    key = client.headers["Authorization"].removeprefix("Bearer ")
    assert fields | {"ms": 0, "bytes": 0} == {
        "method": "GET",
        "route": "/jobs/{job_id}",
        "status": 200,
        "ms": 0,
        "bytes": 0,
        "key_id": key.split("_")[1],
        "request_id": "mine",
    }
    assert fields["bytes"] > 0
    assert key not in json.dumps(fields)


def test_probes_are_logged_only_when_they_fail(
    api: FastAPI, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "app.access"):
        client.get("/healthz")
        client.get("/readyz")
        assert [record.name for record in caplog.records if record.name == "app.access"] == []
        api.state.engine = async_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
        assert client.get("/readyz").status_code == 503

    (record,) = [record for record in caplog.records if record.name == "app.access"]
    assert vars(record)["fields"]["route"] == "/readyz"


def test_bytes_that_the_kernel_sends_are_in_the_log_too(
    served: Served, client: TestClient, finished: Job, caplog: pytest.LogCaptureFixture
) -> None:
    logged: Queue[logging.LogRecord] = Queue()
    handler = QueueHandler(logged)
    logging.getLogger("app.access").addHandler(handler)
    with caplog.at_level("INFO", "app.access"):
        answer = httpx.get(
            f"{served.url}/jobs/{finished.id}/checkpoint",
            headers={"Authorization": client.headers["Authorization"]},
            trust_env=False,
        )
        record = logged.get(timeout=30)
    logging.getLogger("app.access").removeHandler(handler)

    assert vars(record)["fields"]["bytes"] == len(answer.content)


def test_each_metric_has_a_name_by_the_conventions(api: FastAPI, client: TestClient) -> None:
    client.get("/jobs")

    for name, family in families(api.state.registry).items():
        assert NAME.fullmatch(name), name
        assert family.documentation
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
