"""Every kind of error that is raised is told of, and its type leads there."""

import ast
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import kinds
from pst_core.errors import PstError

ROOT = Path(__file__).parents[2]


def calls(folder: str, name: str) -> Iterator[list[ast.expr]]:
    """The arguments of every call of a function or class of this name."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                yield node.args


def subclasses(error: type[PstError]) -> Iterator[type[PstError]]:
    yield error
    for child in error.__subclasses__():
        yield from subclasses(child)


def test_every_problem_that_the_api_raises_is_told_of_with_its_status() -> None:
    raised = [
        (ast.literal_eval(kind), ast.literal_eval(status))
        for status, kind, *_ in calls("app", "Problem")
    ]

    assert len(raised) > 15
    for kind, status in raised:
        assert kind in kinds.KINDS, f"{kind} has no entry in app/kinds/"
        assert kinds.KINDS[kind].status == status, kind


def test_every_error_of_the_core_is_told_of() -> None:
    of_the_core = [e for e in subclasses(PstError) if e.__module__.startswith("pst_core.")]
    assert len(of_the_core) > 15
    for error in of_the_core:
        assert error.code in kinds.KINDS, f"{error.code} has no entry in app/kinds/"
        assert kinds.KINDS[error.code].ends_jobs


def test_every_end_of_a_job_is_told_of() -> None:
    # As literals: arguments of Failed, and values under the name "code".
    codes = {
        argument.value
        for arguments in calls("worker", "Failed")
        for argument in ast.walk(ast.Tuple(arguments[:1]))
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }

    assert {"timeout", "protocol", "disk_full"} <= codes
    for code in codes:
        assert kinds.KINDS[code].ends_jobs, code


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_the_type_of_a_problem_leads_to_what_it_means(anonymous: TestClient, kind: str) -> None:
    answer = anonymous.get(kinds.path(kind))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert kinds.KINDS[kind].remedy in unescape(answer.text)


def test_all_kinds_are_listed(anonymous: TestClient) -> None:
    listed = anonymous.get("/problems").text

    assert all(f'href="{kinds.path(kind)}"' in listed for kind in kinds.KINDS)


def test_a_kind_that_is_none_is_not_found(anonymous: TestClient) -> None:
    assert anonymous.get("/problems/<b>").json()["type"] == "/problems/not_found"
