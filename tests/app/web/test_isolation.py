"""Projects do not see each other on the page either; its routes are read from its own description.

Beside the API's own test of this: what is another project's gets the page that nothing gets.
"""

from collections.abc import Mapping

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection
from starlette.routing import Mount

from app.projects.service import NewKey
from tests.app.others import NOBODYS, Ids, state
from tests.app.web.conftest import sign_in

Route = tuple[str, str]


def routes(api: FastAPI) -> list[Route]:
    """All of the page's."""
    (page,) = (
        route.app for route in api.routes if isinstance(route, Mount) and route.path == "/ui"
    )
    assert isinstance(page, FastAPI)
    return [
        (method.upper(), f"/ui{path}")
        for path, methods in page.openapi()["paths"].items()
        for method in methods
    ]


def ask(client: TestClient, route: Route, ids: Ids) -> tuple[int, str, Mapping[str, str]]:
    method, path = route
    path = path.format_map({**ids, "format": "packed", "name": "config.json"})
    answer = client.request(
        method,
        path,
        data={} if method == "POST" else None,
        follow_redirects=False,
        headers={"X-Request-ID": "1", "Content-Type": "application/x-www-form-urlencoded"},
    )
    text = answer.text
    for each in ids.values():
        text = text.replace(each, "ID")
    return answer.status_code, text, answer.headers


def test_what_is_another_projects_gets_the_page_of_what_never_was(
    api: FastAPI, user: TestClient, foreign_ids: Ids, connection: Connection
) -> None:
    owned = [each for each in routes(api) if "{" in each[1]]
    before = state(connection)
    for route in owned:
        foreign, nobodys = (ask(user, route, ids) for ids in (foreign_ids, NOBODYS))

        assert foreign[0] == 404, route
        assert foreign[:2] == nobodys[:2], route
    assert len(owned) >= 24
    assert state(connection) == before


def test_its_own_project_gets_other_answers(
    api: FastAPI, visitor: TestClient, foreign_key: NewKey, foreign_ids: Ids
) -> None:
    """Or the test above would compare two ways of asking for nothing."""
    sign_in(visitor, foreign_key)
    # What ends anything comes last, and the key that asks at the very end.
    ends = ("revoke", "rotate", "delete")
    asked = sorted(
        (each for each in routes(api) if "{" in each[1]),
        key=lambda each: (
            each[1].endswith(ends),
            # It takes its jobs along.
            "sweep" in each[1],
            "keys" in each[1],
        ),
    )
    for route in asked:
        assert ask(visitor, route, foreign_ids)[0] in (200, 303, 409), route


def test_no_list_shows_anything_of_another_project(
    api: FastAPI, user: TestClient, foreign_ids: Ids
) -> None:
    for route in routes(api):
        if route[0] == "GET" and "{" not in route[1]:
            status, text, _ = ask(user, route, {})
            assert status in (200, 303), route
            for each in foreign_ids.values():
                assert each not in text, route


def test_a_job_like_another_projects_is_not_found(user: TestClient, foreign_ids: Ids) -> None:
    assert user.get("/ui/jobs/new", params={"like": foreign_ids["job_id"]}).status_code == 404


def test_every_route_asks_who_it_is(api: FastAPI, visitor: TestClient) -> None:
    """And shows nobody anything before it knows."""
    is_open = {
        ("GET", "/ui/"),
        ("GET", "/ui/sign-in"),
        ("POST", "/ui/sign-in"),
        ("POST", "/ui/sign-out"),
    }
    for route in routes(api):
        if route not in is_open:
            status, text, headers = ask(visitor, route, NOBODYS)
            if route[0] == "GET":
                assert status == 303, route
                assert headers["location"].startswith("/ui/sign-in"), route
            else:
                assert status == 401, route
                assert "no longer signed in" in text, route


def test_the_apis_description_knows_nothing_of_the_page(api: FastAPI) -> None:
    assert not [path for path in api.openapi()["paths"] if path.startswith("/ui") or path == "/"]


@pytest.mark.parametrize("path", ["/ui/openapi.json", "/ui/docs"])
def test_the_page_is_described_to_nobody(user: TestClient, path: str) -> None:
    assert user.get(path).status_code == 404
