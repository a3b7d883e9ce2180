"""Makes the site of these pages: their order, and what they link to outside this folder.

The pages are plain Markdown first. What lies outside is brought in as it is, so that one relative
link leads somewhere both in a checkout and in the site.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
"""What lies beside this folder and is a page of the site, and its name there."""
FIRST = ("index", "tutorial", "cli", "api", "method", "formats", "operations", "architecture")
LAST = ("benchmarks", "problems", "decisions", "contributing", "changes")
TITLES = {"index": "Overview", "api": "API", "decisions": "Decisions"}
"""Of the pages and folders that are called otherwise than by their first heading."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside this folder, and every file that a page links to."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for page in list(files.documentation_pages()):
        for target in LINK.findall(page.content_string):
            path = _linked(page.src_uri, target)
            if path and _is_shown(path) and not files.get_file_from_path(_source(path)):
                files.append(File.generated(config, _source(path), content=_listing(path)))
    config.nav = _navigation(files)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point each link to where its target lies in the site."""
    del config, files
    here = page.file.src_uri
    if here.startswith("source/"):
        return markdown

    def moved(match: re.Match[str]) -> str:
        path = _linked(here, match[1])
        return posixpath.relpath(_in_site(path), posixpath.dirname(here)) if path else match[1]

    return LINK.sub(moved, markdown)


def _linked(page: str, target: str) -> str | None:
    """The path in the repository that a page of the site links to; None where it's not there."""
    outside = {name: source for source, name in PAGES.items()}
    origin = outside.get(page) or f"docs/{page}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def _in_site(path: str) -> str:
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        # A folder is shown by a code host; in the site its first page leads to the others.
        return inside if (ROOT / path).is_file() else _first_page(inside)
    return _source(path)


def _first_page(folder: str) -> str:
    return min(
        path.relative_to(ROOT / "docs") for path in (ROOT / "docs" / folder).glob("*.md")
    ).as_posix()


def _is_shown(path: str) -> bool:
    """Whether it's a file that is no page, nor beside the pages."""
    return path not in PAGES and not path.startswith("docs/") and (ROOT / path).is_file()


def _source(path: str) -> str:
    return f"source/{path}.md"


def _listing(path: str) -> str:
    """A page that shows a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"# {path}\n\n~~~~~~{Path(path).suffix.removeprefix('.')}\n{text}\n~~~~~~\n"


def _navigation(files: Files) -> list[object]:
    """Every page, those of folders below a name; those that have no place here come between."""
    found: dict[str, list[str]] = {}
    for file in files.documentation_pages():
        if not file.src_uri.startswith("source/"):
            found.setdefault(file.src_uri.removesuffix(".md").split("/")[0], []).append(
                file.src_uri
            )
    others = sorted(found.keys() - {*FIRST, *LAST})
    return list(_entries(found, [name for name in (*FIRST, *others, *LAST) if name in found]))


def _entries(found: dict[str, list[str]], names: list[str]) -> Iterator[object]:
    for name in names:
        pages = sorted(found[name], key=lambda page: (page.count("/"), page))
        entry = pages[0] if pages == [f"{name}.md"] else pages
        title = TITLES.get(name) or (name.capitalize() if entry is pages else None)
        yield {title: entry} if title else entry
