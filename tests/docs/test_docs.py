"""The docs are true where a machine can tell: links, files, functions, targets, commands."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from app.cli import cli
from app.main import create_app
from app.settings import Settings
from pst_core.__main__ import cli as pst_core
from pst_core.errors import PstError
from pst_core.spec import CompressionSpec
from tests.docs.pages import PAGES, ROOT, name

LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
CODE = re.compile(r"`([^`\n]+)`")
MODULE = re.compile(r"(?:app|worker|pst_core|migrations|tests|examples)/[\w/]+\.py")
FUNCTION = re.compile(r"((?:app|worker|pst_core)/[\w/]+\.py):(\w+)")
ROUTE = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/(?!hf)[\w/{}-]*)")
METHOD_COMMAND = re.compile(r"python -m pst_core ([^`\n]+)")
PST_COMMAND = re.compile(
    r"(?:\.venv/bin/)?pst ((?:serve|api|worker|beat|db|keys|projects"
    r"|jobs|datasets|sweeps|api-keys|estimate|login|models|methods)\b[^`\"\n]*)"
)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_module_that_is_named_exists(page: Path) -> None:
    for path in MODULE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_function_that_is_named_exists(page: Path) -> None:
    for path, function in FUNCTION.findall(page.read_text(encoding="utf-8")):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        found = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
        assert function in found, f"{path}:{function}"


def test_every_make_target_in_the_docs_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))

    for page in PAGES:
        for line in CODE.findall(page.read_text(encoding="utf-8")):
            for words in re.findall(r"^make ([\w ]+)$", line):
                assert set(words.split()) <= targets, f"{page.name}: {line}"


@pytest.mark.usefixtures("placeholders")
def test_every_pst_command_in_the_docs_is_one() -> None:
    group = typer.main.get_command(cli)
    commands = {
        found for page in PAGES for found in PST_COMMAND.findall(page.read_text(encoding="utf-8"))
    }
    assert len(commands) >= 6

    for line in commands:
        parse(group, shlex.split(re.split(r"[`,<>\\]", line)[0]))


@pytest.mark.usefixtures("placeholders")
def test_every_command_of_the_method_in_the_docs_is_one() -> None:
    group = typer.main.get_command(pst_core)
    commands = {
        found.removesuffix('"')
        for page in PAGES
        for found in METHOD_COMMAND.findall(page.read_text(encoding="utf-8"))
    }
    assert len(commands) >= 6

    for line in commands:
        words = shlex.split(line)
        # Where only its name is told, it is asked for help.
        parse(group, words if len(words) > 1 else [*words, "--help"])


@pytest.fixture
def placeholders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands name, so that their parsers find it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("ADAPTER", "DIR", "$JOB-packed"):
        Path(folder).mkdir()
    for file in ("SPEC", "spec.json", "mine.csv"):
        Path(file).write_text("{}", encoding="utf-8")


def parse(command: object, words: list[str]) -> None:
    """Parse a command line by the command's own parser, group after group, and run nothing.

    One that is only named need not be given what it requires.
    """
    while hasattr(command, "commands") and words:
        command = command.commands[words.pop(0)]
    if words in ([], ["--help"]):
        return
    command.make_context("pst", [word for word in words if word != "…"])  # type: ignore[attr-defined]


def test_the_readmes_request_is_a_valid_spec() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"-d '(\{.*?\})'", readme, re.DOTALL)

    CompressionSpec.model_validate(json.loads(body))


def test_every_setting_in_the_docs_is_one() -> None:
    names = {f"PST_{name.upper()}" for name in Settings.model_fields} | {
        *("PST_API_KEY", "PST_URL", "PST_PROFILE")
    }

    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for variable in re.findall(r"PST_[A-Z_]*[A-Z]", text):
            known = variable in names or variable in ("PST_PG_BIN", "PST_VALKEY_BIN")
            assert known or variable.startswith("PST_POSTGRES"), f"{page.name}: {variable}"


def test_every_failure_class_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    def classes(error: type[PstError]) -> set[str]:
        # Others are no job's.
        of_jobs = [e for e in error.__subclasses__() if e.__module__.startswith("pst_core.")]
        return {error.code}.union(*(classes(child) for child in of_jobs))

    for code in classes(PstError) - {"invalid_spec"}:
        assert f"`{code}`" in page, code


def test_every_route_in_the_docs_exists(settings: Settings) -> None:
    found = create_app(settings).openapi()["paths"]
    paths = {re.sub(r"\{\w+\}", "{}", path): methods for path, methods in found.items()}

    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for method, path in ROUTE.findall(text):
            shown = re.sub(r"\{\w+\}", "{}", path.rstrip("/"))
            assert method.lower() in paths.get(shown, {}), f"{page.name}: {method} {path}"
