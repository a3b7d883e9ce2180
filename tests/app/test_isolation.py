"""Projects do not see each other: whatever is asked, of another's as of what never was.

The routes are read from the API's own description: a new one is asked by itself.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey, create_key
from app.settings import Settings
from tests import datasets
from tests.app.answers import comparable
from tests.app.operations import HUB, Operation, operations
from tests.app.others import NOBODYS, Ids, state
from tests.jobs import bring_to
from tests.webhooks import add_endpoint

NONE = dict.fromkeys(NOBODYS, "")
LISTS = ("/jobs", "/keys", "/datasets", "/sweeps", "/webhook-endpoints")
OWNED = (*(f"{{{name}}}" for name in NOBODYS), "{namespace}")
# Of what there is, and other ways to it.
ASKED_WITH: tuple[Mapping[str, str], ...] = (
    {},
    {"Accept": "text/event-stream", "Last-Event-ID": "0"},
    {"Range": "bytes=0-1", "If-None-Match": "*"},
)


def path_of(operation: Operation, ids: Ids) -> str:
    hub = operation.path.startswith(HUB)
    return operation.at(
        {
            **ids,
            "format": "packed",
            "namespace": "jobs",
            "name": ids["job_id"] if hub else "config.json",
            "revision": "main",
            "path": "" if "/tree/" in operation.path else "config.json",
        }
    )


class Answer(Protocol):
    status_code: int

    @property
    def text(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def is_success(self) -> bool: ...


Ask = Callable[[Operation, Ids, Mapping[str, str]], Answer]


@pytest.fixture
def ask(client: TestClient) -> Ask:
    def ask(operation: Operation, ids: Ids, more: Mapping[str, str]) -> Answer:
        # Before what is wrong with a body it would be told whose path it is not.
        body: dict[str, str] | None = {} if operation.method == "PATCH" else None
        headers = {"X-Request-ID": "1", **more}
        return client.request(operation.method, path_of(operation, ids), headers=headers, json=body)

    return ask


def told(answer: Answer, *ids: str) -> tuple[int, str, dict[str, str]]:
    """All that an answer tells but the id that it was asked for, and how often was asked."""
    text = answer.text
    for each in ids:
        text = text.replace(each, "ID")
    return answer.status_code, text, comparable(answer.headers)


def test_what_is_another_projects_answers_as_what_never_was(
    api: FastAPI, ask: Ask, foreign_ids: Ids, connection: Connection
) -> None:
    of_one = [each for each in operations(api) if any(owned in each.path for owned in OWNED)]
    before = state(connection)
    for operation in of_one:
        for more in ASKED_WITH:
            foreign = ask(operation, foreign_ids, more)
            nobodys = ask(operation, NOBODYS, more)

            ids = (*foreign_ids.values(), *NOBODYS.values())
            assert told(foreign, *ids) == told(nobodys, *ids), operation
            assert foreign.status_code == 404 or (
                operation.method == "HEAD" and foreign.status_code == 405
            ), operation
    assert len(of_one) >= 27
    assert state(connection) == before


def test_its_own_project_gets_another_answer(
    api: FastAPI, ask: Ask, foreign_key: NewKey, foreign_ids: Ids
) -> None:
    """Or the test above would compare two ways of asking for nothing."""
    own = {"Authorization": f"Bearer {foreign_key.key}"}
    # The key itself last, and the job just before.
    asked = sorted(
        operations(api),
        key=lambda each: (each.method == "DELETE", "key_id" in each.path, "sweep_id" in each.path),
    )
    for operation in asked:
        if any(owned in operation.path for owned in OWNED):
            answer = ask(operation, foreign_ids, own)
            assert answer.status_code != 404, operation
            assert answer.is_success or answer.status_code in (405, 409), operation


def test_no_list_shows_anything_of_another_project(
    api: FastAPI, ask: Ask, foreign_key: NewKey, foreign_ids: Ids
) -> None:
    lists = [each for each in operations(api) if each.method == "GET" and "{" not in each.path]
    for operation in lists:
        answer = ask(operation, NONE, {})

        assert answer.is_success, operation
        for foreign_id in foreign_ids.values():
            assert foreign_id not in answer.text, operation
        assert foreign_key.project_id not in answer.text, operation
    assert {f"GET {path}" for path in LISTS} <= {str(each) for each in lists}


@pytest.mark.parametrize("path", ["/jobs", "/keys", "/datasets", "/webhook-endpoints"])
def test_a_cursor_of_another_project_is_refused(
    client: TestClient,
    settings: Settings,
    sessions: sessionmaker[Session],
    engine: Engine,
    foreign_key: NewKey,
    path: str,
) -> None:
    for name in ("a", "b"):
        bring_to(sessions, foreign_key.project_id, "queued")
        add_endpoint(sessions, settings, foreign_key.project_id, "https://example.com/")
        datasets.ready(sessions, settings, foreign_key.project_id, name=name)
    with engine.begin() as connection:
        create_key(connection, name="second", project="another")
    own = {"Authorization": f"Bearer {foreign_key.key}"}
    cursor = client.get(path, params={"limit": 1}, headers=own).json()["next_cursor"]

    answer = client.get(path, params={"cursor": cursor})

    assert answer.status_code == 422
    assert answer.json()["type"].endswith("cursor_of_another_list")
