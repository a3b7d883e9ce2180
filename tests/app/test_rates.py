"""Rate limits: buckets, what callers are told, and bad keys that do not reach the database."""

import math

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from huggingface_hub.utils._http import parse_ratelimit_headers
from sqlalchemy import Engine

from app.projects.service import NewKey, create_key
from app.rates import Buckets, site
from app.settings import Settings
from tests.app.statements import counted


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limits = {
        "key_requests_burst": 5,
        "key_requests_per_second": 0.1,
        "bad_keys_burst": 10,
        "bad_keys_per_second": 1e-4,
    }
    return settings.model_copy(update=limits)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def unknown(number: int) -> dict[str, str]:
    return bearer(f"pst_{number:08x}_" + "A" * 43)


def test_a_bucket_gives_its_burst_and_then_its_rate(clock: Clock) -> None:
    buckets = Buckets("x", burst=3, per_second=2, clock=clock)
    at_once = [buckets.take("a").allowed for _ in range(5)]
    clock.now += 1
    later = [buckets.take("a").allowed for _ in range(3)]

    assert at_once == [True, True, True, False, False]
    assert later == [True, True, False]


def test_a_bucket_never_holds_more_than_its_burst(clock: Clock) -> None:
    buckets = Buckets("x", burst=2, per_second=1, clock=clock)
    buckets.take("a")
    clock.now += 1000

    assert [buckets.take("a").allowed for _ in range(3)] == [True, True, False]


def test_each_has_a_bucket_of_its_own_and_looking_takes_nothing(clock: Clock) -> None:
    buckets = Buckets("x", burst=1, per_second=1, clock=clock)

    assert [buckets.look("a").allowed for _ in range(3)] == [True] * 3
    assert [buckets.take(who).allowed for who in ("a", "a", "b")] == [True, False, True]


def test_a_refusal_says_when_there_is_a_token_again(clock: Clock) -> None:
    buckets = Buckets("x", burst=1, per_second=0.1, clock=clock)
    buckets.take("a")
    wait = buckets.take("a").retry_after

    clock.now += wait
    assert wait == 10
    assert buckets.take("a").allowed


def test_few_are_remembered(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.rates.REMEMBERED", 2)
    buckets = Buckets("x", burst=1, per_second=1, clock=clock)
    for who in "abc":
        buckets.take(who)

    assert [buckets.look(who).allowed for who in "abc"] == [True, False, False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("testclient", "testclient", True),
    ],
)
def test_an_ipv6_address_stands_for_its_network(one: str, other: str, same: bool) -> None:
    assert (site(one) == site(other)) is same


def test_every_answer_to_a_key_says_what_is_left(client: TestClient) -> None:
    answers = [client.get("/jobs"), client.get("/jobs/job_0"), client.get("/hf/jobs/x/resolve/a/b")]

    found = [parse_ratelimit_headers(answer.headers) for answer in answers]
    assert [each and each.remaining for each in found] == [4, 3, 2]
    assert [each and (each.limit, each.window_seconds) for each in found] == [(5, 50)] * 3


def test_a_key_that_asks_too_often_is_told_when_to_come_back(
    client: TestClient, foreign_key: NewKey
) -> None:
    statuses = [client.get("/jobs").status_code for _ in range(6)]
    refused = client.get("/jobs")
    limit = parse_ratelimit_headers(refused.headers)

    assert statuses == [200] * 5 + [429]
    assert refused.json()["type"].endswith("rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= math.ceil(1 / 0.1)
    assert limit
    assert limit.remaining == 0
    assert client.get("/jobs", headers=bearer(foreign_key.key)).status_code == 200


def test_bad_keys_of_an_address_stop_reaching_the_database(
    api: FastAPI, anonymous: TestClient
) -> None:
    with counted(api) as sent:
        answers = [anonymous.get("/jobs", headers=unknown(each)) for each in range(1000)]

    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 990
    assert len(sent) == 10
    assert int(answers[-1].headers["retry-after"]) > 0


def test_a_key_that_was_good_is_not_shut_out_by_others_at_its_address(
    anonymous: TestClient, key: NewKey, engine: Engine
) -> None:
    assert anonymous.get("/jobs", headers=bearer(key.key)).status_code == 200
    for each in range(11):
        anonymous.get("/jobs", headers=unknown(each))
    with engine.begin() as connection:
        new = create_key(connection, name="not met yet")

    assert anonymous.get("/jobs", headers=bearer(key.key)).status_code == 200
    assert anonymous.get("/jobs", headers=bearer(new.key)).status_code == 429
