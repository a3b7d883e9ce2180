"""What protects who looks: the origin of forms, the policy, and how others' text is shown."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.projects.service import NewKey
from app.web import new_job
from app.web.headers import HEADERS
from app.web.rendering import asset, visible
from tests.jobs import job_row, submit

ELSEWHERE = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
)
OLDER: tuple[dict[str, str], ...] = ({"Origin": "https://evil.example"}, {"Origin": "null"}, {})


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_a_form_from_elsewhere_changes_nothing(
    user: TestClient,
    sessions: sessionmaker[Session],
    key: NewKey,
    headers: dict[str, str],
) -> None:
    job_id = submit(sessions, key.project_id)

    answer = user.post(f"/ui/jobs/{job_id}/cancel", headers=headers)

    assert answer.status_code == 403
    assert job_row(sessions, job_id).status == "queued"


@pytest.mark.parametrize("headers", OLDER, ids=str)
def test_without_the_newer_header_the_origin_must_be_this_host(
    user: TestClient, sessions: sessionmaker[Session], key: NewKey, headers: dict[str, str]
) -> None:
    job_id = submit(sessions, key.project_id)
    del user.headers["Sec-Fetch-Site"]

    assert user.post(f"/ui/jobs/{job_id}/cancel", headers=headers).status_code == 403
    assert job_row(sessions, job_id).status == "queued"
    here = {"Origin": "http://testserver"}
    assert user.post(f"/ui/jobs/{job_id}/cancel", headers=here).status_code == 200
    assert job_row(sessions, job_id).status == "cancelled"


def test_a_cross_site_form_cannot_sign_anybody_in(visitor: TestClient, key: NewKey) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}

    answer = visitor.post("/ui/sign-in", data={"key": key.key}, headers=headers)

    assert answer.status_code == 403
    assert not visitor.cookies


@pytest.mark.parametrize("path", ["/ui/jobs", "/ui/none", "/ui/sign-in", "/ui/static/page.css"])
def test_every_answer_allows_nothing_but_its_own(user: TestClient, path: str) -> None:
    answer = user.get(path)

    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert "<script>" not in answer.text
    assert "style=" not in answer.text


def test_what_is_shown_is_kept_by_nobody_on_the_way(user: TestClient) -> None:
    assert user.get("/ui/jobs").headers["cache-control"] == "no-store"


def test_what_the_page_is_made_of_is_kept_by_its_hash_alone(visitor: TestClient) -> None:
    hashed = visitor.get(asset("page.css"))

    assert hashed.headers["cache-control"] == "public, max-age=31536000, immutable"
    for url in ("/ui/static/page.css", "/ui/static/page.css?v=0123456789ab"):
        assert visitor.get(url).headers["cache-control"] == "no-store"


def test_an_unexpected_error_is_as_protected(
    user: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_job, "SUGGESTED", "none")

    answer = user.get("/ui/jobs/new")

    assert answer.status_code == 500
    assert answer.headers.items() >= {k.lower(): v for k, v in HEADERS.items()}.items()
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("like", ["%00", "a/b", "x" * 65])
def test_an_id_that_cannot_be_one_is_refused(user: TestClient, like: str) -> None:
    assert user.get(f"/ui/jobs/new?like={like}").status_code == 422


def test_others_text_is_shown_as_text(
    user: TestClient, key: NewKey, spec: dict[str, object]
) -> None:
    bearer = {"Authorization": f"Bearer {key.key}"}
    markup = '"><img src=x onerror=alert(1)>'
    posted = user.post(
        "/jobs", json=spec | {"metadata": {"note": markup + "\u202egnp.exe"}}, headers=bearer
    )

    shown = user.get(f"/ui/jobs/{posted.json()['id']}").text

    assert "<img" not in shown
    assert "&lt;img src=x" in shown
    assert "\u202e" not in shown
    assert "\\u202egnp.exe" in shown


@pytest.mark.parametrize("unseen", ["\u202e", "\u2066", "\u200f", "\u200b", "\ufeff", "\x1b", "\0"])
def test_what_is_not_seen_is_named(unseen: str) -> None:
    assert visible(f"a{unseen}b") == f"a\\u{ord(unseen):04x}b"


def test_what_is_seen_stays() -> None:
    assert visible("naïve 日本 עברית\n\t") == "naïve 日本 עברית\n\t"


def test_a_form_that_is_none_is_refused(user: TestClient, sessions: sessionmaker[Session]) -> None:
    for kind in ("text/plain", "application/json"):
        headers = {"Content-Type": kind}
        assert user.post("/ui/jobs/new", content=b"{}", headers=headers).status_code == 415
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"a=%FF", b"\xff=1", b"&".join(b"a=1" for _ in range(501))):
        assert user.post("/ui/jobs/new", content=content, headers=headers).status_code == 400
    with sessions() as session:
        assert session.scalar(select(func.count(Job.id))) == 0
