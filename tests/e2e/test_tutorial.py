"""docs/tutorial.md: its very commands, typed one after the other, print what it shows."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.guide import Answer, Shell
from tests.docs.pages import ROOT, Block, blocks
from tests.docs.shapes import differences, is_printed
from tests.e2e.service import PATIENCE, Service

OURS = ("make install", "pst serve")


@pytest.fixture
def shell(service: Service, tmp_path: Path) -> Iterator[Shell]:
    """In a folder that has a `.venv` as a clone does; what still trains at the end is deleted."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    given = {"PST_URL": service.url, "PST_API_KEY": service.key}
    kept = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    shell = Shell(tmp_path, kept | given, patience=PATIENCE)
    yield shell
    for sweep in service.client.get("/sweeps").json()["data"]:
        service.client.delete(f"/sweeps/{sweep['id']}").raise_for_status()


def test_every_command_prints_what_the_tutorial_shows(service: Service, shell: Shell) -> None:
    answers: list[Answer] = []
    printed = ""
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        where = f"docs/tutorial.md:{block.line}"
        if is_ours(block):
            printed = "".join(service.output)
        elif block.language == "sh":
            answers, printed = shell.run(block.text), shell.printed
            assert {answer.status for answer in answers} <= {200, 202}, where
        elif block.language == "json":
            lost = differences(json.loads(block.text), answers[-1].json())
            assert lost == [], f"{where}: {answers[-1].body}"
        elif block.language == "text":
            lost = [line for line in block.text.splitlines() if not is_printed(line, printed)]
            assert lost == [], where


def is_ours(block: Block) -> bool:
    """Whether it installs or serves: the service that the tests share has done so already."""
    return block.language == "sh" and any(words in block.text for words in OURS)
