"""The pages as a site: built without a warning, whole, and asking no other host for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name

LOADED = re.compile(r'(?:src|<link [^>]*href)="(?:https?:)?//[^"]+')
PLAIN = re.compile(r"<p>(?:\||- |\d+\. |```)")
BESIDE = {"README.md": "index", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changes"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    built = subprocess.run(
        build,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")

    for page in PAGES:
        path = BESIDE.get(name(page)) or name(page).removeprefix("docs/").removesuffix(".md")
        assert f'href="{path}.html"' in front, path


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert LOADED.findall(page.read_text(encoding="utf-8")) == [], page


def test_tables_and_lists_are_drawn_as_such(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert PLAIN.findall(page.read_text(encoding="utf-8")) == [], page


def test_a_link_to_a_source_file_leads_to_a_page_that_shows_it(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")

    assert 'href="source/app/settings.py.html"' in front
    assert "class" in (site / "source" / "app" / "settings.py.html").read_text(encoding="utf-8")
