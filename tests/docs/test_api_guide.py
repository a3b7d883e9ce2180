"""docs/api.md and docs/api/: every call is there, by curl and in Python, and does what is shown."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.projects.service import NewKey
from tests.app.served import Served
from tests.docs.guide import Answer, Interpreter, Reader, Shell, statuses
from tests.docs.pages import ROOT, Block, blocks, name
from tests.docs.shapes import differences
from tests.docs.world import World

START = ROOT / "docs" / "api.md"
GUIDE = [START, *sorted((ROOT / "docs" / "api").glob("*.md"))]
CURL = re.compile(r'curl\b.*?"\$PST_URL(/[^"?]*)')
METHOD = re.compile(r"-X (\w+)")
PYTHON = re.compile(r'client\.(\w+)\((?:"GET", )?f?"(/[^"?]*)"')


@pytest.fixture(params=["sh", "python"])
def reader(
    request: pytest.FixtureRequest,
    served: Served,
    admin: NewKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reader]:
    given = {"PST_URL": served.url, "PST_API_KEY": admin.key}
    if request.param == "sh":
        yield Shell(tmp_path, {"PATH": "/usr/local/bin:/usr/bin:/bin"} | given)
        return
    for variable, value in (given | {"NO_PROXY": "*"}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    interpreter = Interpreter()
    yield interpreter
    interpreter.names["client"].close()


@pytest.mark.parametrize("page", GUIDE, ids=name)
def test_every_block_does_what_the_page_shows(page: Path, reader: Reader, world: World) -> None:
    if page != START:
        reader.run(next(b.text for b in blocks(START) if b.language == reader.language))
    answers: list[Answer] = []
    for block in blocks(page):
        where = f"{name(page)}:{block.line}"
        if block.text == "no answer":
            answers = []
        elif block.language == "comment":
            reader.learn(world.meanwhile(block.text.removeprefix("meanwhile: ")))
        elif block.language == reader.language:
            answers = reader.run(block.text)
            assert [each.status for each in answers] == statuses(block), where
        elif block.language == "json" and answers:
            shown = json.loads(block.text)
            assert differences(shown, answers[-1].json()) == [], where


@pytest.mark.parametrize("language", ["sh", "python"])
def test_every_operation_is_in_the_guide(language: str) -> None:
    openapi = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    operations = {(m, path) for path, methods in openapi["paths"].items() for m in methods}
    shown = {
        call
        for page in GUIDE
        for block in blocks(page)
        if block.language == language
        for call in calls(block)
    }

    missing = {
        f"{method.upper()} {path}"
        for method, path in operations
        if not any(m == method and as_pattern(path)(p) for m, p in shown)
    }
    assert missing == set()


def calls(block: Block) -> Iterator[tuple[str, str]]:
    """Method and path of each call, with variables for ids."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "python" and (found := PYTHON.search(line)):
            yield "get" if found[1] == "stream" else found[1], found[2]
        elif block.language == "sh" and (found := CURL.search(line)):
            method = METHOD.search(line)
            default = "post" if "--json" in line else "get"
            yield method[1].lower() if method else default, found[1]


def as_pattern(path: str) -> Callable[[str], object]:
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", path)).fullmatch
