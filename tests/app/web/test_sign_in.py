"""Signing in with a key: what the cookie is good for, and for how long."""

import logging

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.keyring import REMEMBERED_SECONDS, Keyring
from app.projects.service import NewKey, create_key, revoke_key
from app.projects.tables import Scope
from app.rates import Buckets
from app.web.sign_in import safe_path
from tests.app.web.conftest import sign_in

BAD = ("", "pst_", "pst_00000000_" + "A" * 43, "x" * 5000)


def test_who_is_not_signed_in_is_led_from_the_root_to_where_one_does(visitor: TestClient) -> None:
    answer = visitor.get("/")

    assert answer.url.path == "/ui/sign-in"
    assert "API key" in answer.text


def test_signing_in_leads_back_to_what_was_wanted(visitor: TestClient, key: NewKey) -> None:
    asked = visitor.get("/ui/keys", follow_redirects=False)
    assert asked.headers["location"] == "/ui/sign-in?to=/ui/keys"

    answer = visitor.post("/ui/sign-in", data={"key": key.key, "to": "/ui/keys"})

    assert (answer.status_code, answer.url.path) == (200, "/ui/keys")


@pytest.mark.parametrize(
    "to",
    ["https://evil.example/", "//evil.example/", "/ui//evil", "/ui/\\evil", "/jobs", "", "/ui/\nx"],
)
def test_signing_in_leads_nowhere_else(to: str) -> None:
    assert safe_path(to) == "/ui/jobs"


def test_the_cookie_is_kept_from_scripts_and_other_sites(visitor: TestClient, key: NewKey) -> None:
    answer = visitor.post("/ui/sign-in", data={"key": key.key}, follow_redirects=False)

    attributes = {each.strip().lower() for each in answer.headers["set-cookie"].split(";")[1:]}
    assert attributes == {"httponly", "path=/ui", "samesite=strict"}


def test_the_cookie_is_sent_over_tls_alone_where_there_is_tls(
    visitor: TestClient, key: NewKey
) -> None:
    https = {"Origin": "https://testserver"}
    answer = visitor.post(
        "/ui/sign-in", data={"key": key.key}, headers=https, follow_redirects=False
    )

    assert "secure" in answer.headers["set-cookie"].lower()


def test_the_cookie_opens_no_route_of_the_api(user: TestClient, key: NewKey) -> None:
    cookie = {"Cookie": f"pst_key={key.key}"}

    assert user.get("/jobs", headers=cookie).status_code == 401
    assert user.post("/jobs", json={}, headers=cookie).status_code == 401
    assert user.get("/hf/api/models/jobs/x", headers=cookie).status_code == 401


def test_a_header_signs_nobody_in(visitor: TestClient, key: NewKey) -> None:
    answer = visitor.get("/ui/jobs", headers={"Authorization": f"Bearer {key.key}"})

    assert answer.url.path == "/ui/sign-in"


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_key_signs_nobody_in(visitor: TestClient, bad: str) -> None:
    answer = visitor.post("/ui/sign-in", data={"key": bad})

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert len(bad) < 10 or bad not in answer.text


def test_bad_keys_are_limited_as_the_apis_are(api: FastAPI, visitor: TestClient) -> None:
    api.state.bad_keys = Buckets("address", burst=2, per_second=0.01)
    form = {"key": BAD[2]}
    for _ in range(2):
        assert visitor.post("/ui/sign-in", data=form).status_code == 401

    refused = visitor.post("/ui/sign-in", data=form)

    assert refused.status_code == 429
    assert "retry-after" in refused.headers
    # It is one limit: the API counts on where the page has stopped.
    assert visitor.get("/jobs", headers={"Authorization": f"Bearer {BAD[2]}"}).status_code == 429


def test_a_revoked_key_is_signed_out_within_seconds(
    api: FastAPI, user: TestClient, key: NewKey, engine: Engine
) -> None:
    now = 100.0
    api.state.keyring = Keyring(lambda: now)
    assert user.get("/ui/jobs").url.path == "/ui/jobs"
    with engine.begin() as connection:
        revoke_key(connection, key.project_id, key.id)

    now += REMEMBERED_SECONDS

    assert user.get("/ui/jobs").url.path == "/ui/sign-in"
    refused = user.post("/ui/jobs/new", data={})
    assert refused.status_code == 401
    assert not user.cookies


def test_a_link_from_another_site_signs_nobody_out(visitor: TestClient) -> None:
    # It comes without the cookie, which is SameSite=Strict.
    answer = visitor.get("/ui/jobs", follow_redirects=False)

    assert answer.status_code == 303
    assert "set-cookie" not in answer.headers


def test_signing_out_forgets_the_key(user: TestClient) -> None:
    answer = user.post("/ui/sign-out")

    assert answer.url.path == "/ui/sign-in"
    assert not user.cookies
    assert user.get("/ui/jobs").url.path == "/ui/sign-in"


def test_a_key_sees_and_gets_only_what_it_may(visitor: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:
        reader = create_key(connection, name="r", scopes=[Scope.JOBS_READ])
    sign_in(visitor, reader)

    listed = visitor.get("/ui/jobs").text

    assert "/ui/jobs/new" not in listed
    assert "/ui/keys" not in listed
    assert '<form method="post" action="/ui/datasets"' not in visitor.get("/ui/datasets").text
    for path in ("/ui/jobs/new", "/ui/keys", "/ui/webhooks"):
        assert visitor.get(path).status_code == 403, path
    assert visitor.post("/ui/jobs/new", data={"model": "pkg:x"}).status_code == 403


def test_a_key_stands_in_no_page_and_in_no_log(
    user: TestClient, key: NewKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = key.key.split("_", 2)[2]
    for path in ("/ui/jobs", "/ui/jobs/new", "/ui/keys", "/ui/webhooks", "/ui/none"):
        answer = user.get(path)
        assert secret not in answer.text + str(answer.headers) + str(answer.url), path

    ours = [record.getMessage() for record in caplog.records if record.name != "httpx2"]
    assert not [line for line in ours if secret in line]
