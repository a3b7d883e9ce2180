"""Secrets are planted wherever one can enter, a job is run, and none is found where it must not be.

One whole installation, whose processes log to files; its trainer is the toy, its storage a bucket.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import Engine, make_url
from standardwebhooks import Webhook

from app.projects.service import NewKey
from app.settings import Settings
from tests.bucket import KEY_ID, SECRET, Bucket
from tests.faults import canaries
from tests.faults.canaries import Place, installation, until
from tests.faults.toy import SPEC, make_toy
from tests.receiver import TAKE, Receiver, receiving, status
from tests.webhooks import allowing
from tests.worker.fetching.hub import FakeHub, Handler, running

HUB_TOKEN = "hf_CanaryOfTheHubToken0123456789"
WEBHOOK_KEY = "canary-of-the-webhook-key-0123456789abcdef"
PROVIDERS_SECRET = "canary/of/the/providers/secret+0123456789"
NEIGHBOURS_PASSWORD = "canary-of-who-shares-the-host"
URL_PASSWORD = "canary-of-a-reference"
IDEMPOTENCY_KEY = "canary-of-a-request-0123456789"
Json = dict[str, Any]


def echo(status: int, code: str) -> Callable[[Handler], None]:
    """Says back all that came, as a hub in trouble might."""

    def answer(handler: Handler) -> None:
        sent = f"no: {dict(handler.headers)}"
        about = {"X-Error-Code": code, "X-Error-Message": sent, "X-Request-Id": sent}
        handler.send(status, sent.encode(), about)

    return answer


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    # What is odd first, then what ends a job.
    answers = [echo(400, ""), *[echo(403, "GatedRepo")] * 20]
    with running(FakeHub(instead={"main": answers})) as hub:
        yield hub


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that fails first, so that there is an attempt to log."""
    answers = iter([status(500)])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(answers, TAKE)(handler)

    with receiving() as receiver:
        receiver.behaviour = answer
        yield receiver


@pytest.fixture
def settings(
    settings: Settings, file_root: Path, hub: FakeHub, receiver: Receiver, bucket: Bucket
) -> Settings:
    make_toy(file_root, steps=200, step_seconds=0.01)
    own = {"hub_endpoint": hub.url, "poll_seconds": 0.2, "lease_seconds": 120}
    webhooks = {"webhook_poll_seconds": 0.1, "webhook_backoff_seconds": 0.1}
    return allowing(bucket.settings(settings), receiver.port, **own, **webhooks)


@dataclass(frozen=True)
class Surroundings:
    """Whom the installation talks to, and what it is told for that."""

    hub: FakeHub
    bucket: Bucket
    receiver: Receiver
    variables: dict[str, str]


@pytest.fixture
def around(hub: FakeHub, bucket: Bucket, receiver: Receiver) -> Surroundings:
    # The secrets that an operator sets, or has set for others.
    variables = {
        "PST_HUB_TOKEN": HUB_TOKEN,
        "PST_WEBHOOK_KEY": WEBHOOK_KEY,
        "PST_STORAGE_OPTIONS": json.dumps(bucket.options),
        "AWS_SECRET_ACCESS_KEY": PROVIDERS_SECRET,
        "NEIGHBOURS_PASSWORD": NEIGHBOURS_PASSWORD,
    }
    return Surroundings(hub, bucket, receiver, variables)


@pytest.fixture
def secrets(settings: Settings, key: NewKey) -> dict[str, str]:
    """By name; what comes up while the installation runs is added."""
    return {
        "the API key": key.key.rpartition("_")[2],
        "the hub's token": HUB_TOKEN,
        "the webhooks' key": WEBHOOK_KEY,
        "the bucket's key": KEY_ID,
        "the bucket's secret": SECRET,
        "the provider's secret": PROVIDERS_SECRET,
        "a neighbour's password": NEIGHBOURS_PASSWORD,
        "the database's password": str(make_url(settings.database_url or "").password),
        "the broker's password": str(make_url(settings.broker_url or "").password),
        "a reference's password": URL_PASSWORD,
        "a request's idempotency key": IDEMPOTENCY_KEY,
    }


def plant(client: httpx.Client, key: str) -> None:
    """Send secrets wherever a request takes text."""
    client.get("/jobs", params={"api_key": key, "cursor": key})
    client.get(f"/jobs/{key}", headers={"X-Request-ID": key, "User-Agent": key})
    client.post("/jobs", json=SPEC, headers={"Authorization": f"Bearer {key}x"})
    client.post("/jobs", json={**SPEC, key: key, "sparsity": key})
    for model in (f"hub:user:{URL_PASSWORD}@org/name", f"https://user:{URL_PASSWORD}@host/name"):
        client.post("/jobs", json={**SPEC, "model": model})
    upload = {"filename": f"{key}.csv", "name": f"{key}.csv"}
    client.post("/datasets", params=upload, content=b"text,label\ngood,1\nbad,0\n")


def endpoint(client: httpx.Client, url: str) -> tuple[str, str]:
    """Both secrets of an endpoint: the one before signs as well."""
    made = client.post("/webhook-endpoints", json={"url": url}).raise_for_status().json()
    path = f"/webhook-endpoints/{made['id']}/rotate-secret"
    return made["secret"], client.post(path, json={}).raise_for_status().json()["secret"]


def post(client: httpx.Client, key: str) -> list[str]:
    """Jobs; one of them twice, and a third time as another under its name."""
    jobs: list[tuple[Json, Json]] = [
        ({**SPEC, "metadata": {"note": key}}, {}),
        ({**SPEC, "model": "hub:org/name"}, {"Idempotency-Key": IDEMPOTENCY_KEY}),
    ]
    again = jobs[1]
    ids = [
        client.post("/jobs", json=job, headers=headers).raise_for_status().json()["id"]
        for job, headers in [*jobs, again]
    ]
    assert ids.pop() == ids[1]
    other = client.post("/jobs", json=SPEC, headers=again[1])
    assert other.json()["field"] == "Idempotency-Key"
    return ids


def ended(client: httpx.Client, job_id: str) -> str | None:
    status: str = client.get(f"/jobs/{job_id}").json()["status"]
    return status if status in ("succeeded", "failed") else None


def signature(client: httpx.Client, job_id: str) -> str:
    """Of the link that a download is sent to: whoever has it may fetch."""
    answer = client.get(f"/jobs/{job_id}/checkpoint", follow_redirects=False)
    return parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Signature"][0]


def test_secrets_are_found_nowhere_after_jobs_have_run(
    settings: Settings,
    engine: Engine,
    key: NewKey,
    around: Surroundings,
    secrets: dict[str, str],
    tmp_path: Path,
) -> None:
    logs = tmp_path / "logs"
    places: list[Place] = []
    with (
        installation(settings, logs, around.variables) as (url, processes),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        client.headers["Authorization"] = f"Bearer {key.key}"
        plant(client, key.key)
        first, second = endpoint(client, around.receiver.url)
        secrets |= {"an endpoint's secret": second, "an endpoint's secret before": first}
        around.bucket.fail("403", method="PUT", times=1)
        jobs = post(client, key.key)
        places += until(lambda: canaries.of_a_trainer(processes))
        ends = [until(partial(ended, client, job_id)) for job_id in jobs]
        secrets["a link's signature"] = signature(client, jobs[0])
        until(lambda: {"job.succeeded", "job.failed"} <= {*around.receiver.types})
        places += [place for job_id in jobs for place in canaries.shown(client, job_id)]
    places += [*canaries.tables(engine), *canaries.objects(settings)]
    places += canaries.files(logs, settings.data)
    places += [("what a webhook's receiver got", str(around.receiver.received))]

    # They were where they were to be, and the log tells of what came.
    assert ends == ["succeeded", "failed"]
    sent = {headers.get("authorization") for _, headers in around.hub.requests}
    assert sent == {f"Bearer {HUB_TOKEN}"}
    for secret in (first, second):
        told = around.receiver.received[-1]
        Webhook(secret).verify(told.body.decode(), dict(told.headers))
    assert any(place.startswith("the object ") for place, _ in places)
    log = {name: (logs / f"{name}.log").read_text(encoding="utf-8") for name in canaries.PARTS}
    assert '"route":"/jobs/{job_id}"' in log["api"]
    assert "the storage could not write" in log["worker"]
    assert [
        f"{secret} in {place}"
        for place, content in places
        for secret, value in secrets.items()
        if value.removeprefix("whsec_") in content
    ] == []
