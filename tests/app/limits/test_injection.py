"""Texts made to break headers, lines of logs and documents: each stays what it is."""

import json
import logging
from email.message import Message
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.tables import Job
from app.settings import Settings
from tests.published import publish, stored_path

HOSTILE = {
    "header": "a\r\nSet-Cookie: b=c",
    "event": "a\n\ndata: b\n\nevent: c",
    "return": "a\rb",
    "terminal": "\x1b[2J\x1b[31m",
    "direction": "a\u202eb\u2066c",
    "separator": "a\u2028b\u0085c",
    "emoji": "\U0001f469\u200d\U0001f4bb",
    "markup": "</title><script>alert(1)</script>",
    "format": "%s%(levelname)s{0}{request}",
}

text = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@text
def test_a_text_in_a_problem_comes_back_as_it_was(
    client: TestClient, spec: dict[str, object], text: str
) -> None:
    answer = client.post("/jobs", json=spec | {"model": f"file:{text}"})

    assert answer.status_code == 422
    assert json.loads(answer.content)["detail"].startswith(f"file:{text} is not")
    assert not {"set-cookie"} & answer.headers.keys()


@text
def test_a_name_of_a_field_comes_back_as_it_was(
    client: TestClient, spec: dict[str, object], text: str
) -> None:
    (error,) = client.post("/jobs", json=spec | {text: 1}).json()["errors"]

    assert error["field"] == text
    assert error["pointer"].isascii()
    assert error["pointer"].isprintable()


@text
def test_a_path_and_a_parameter_break_nothing(client: TestClient, text: str) -> None:
    for url in (f"/{quote(text)}", f"/problems/{quote(text)}", f"/jobs?status={quote(text)}"):
        answer = client.get(url)

        assert answer.status_code in (404, 422)
        assert answer.headers["content-type"] == "application/problem+json"


@text
def test_an_error_of_a_job_comes_back_as_it_was(
    client: TestClient, sessions: sessionmaker[Session], running: Job, text: str
) -> None:
    error = {"code": "internal", "message": text, "field": None, "remedy": text}
    with sessions.begin() as session:
        session.execute(update(Job).values(error=error))

    assert client.get(f"/jobs/{running.id}").json()["error"]["message"] == text


@text
def test_a_file_of_any_name_has_a_harmless_header_and_one_line_in_the_log(
    client: TestClient,
    settings: Settings,
    sessions: sessionmaker[Session],
    running: Job,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    text: str,
) -> None:
    name = text.replace("/", "_")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_text("content", encoding="utf-8")
    publish(sessions, settings, running, {"packed": folder, "dense": folder})
    url = f"/jobs/{running.id}/artifacts/packed/{quote(name, safe='')}"

    answer = client.get(url)
    stored = stored_path(sessions, settings, running, "packed")
    damaged = stored.read_bytes().replace(b"content", b"CONTENT")
    stored.chmod(0o600)
    stored.write_bytes(damaged)
    with caplog.at_level(logging.ERROR):
        corrupt = client.get(url)

    header = Message()
    header["Content-Disposition"] = answer.headers["content-disposition"]
    assert answer.content == b"content"
    assert set(header.get_filename() or "") <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGJSTC0123456789._-"
    )
    assert corrupt.status_code == 502
    for record in caplog.records:
        assert record.getMessage().isprintable()
