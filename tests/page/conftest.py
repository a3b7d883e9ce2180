"""The page in a real browser: Chromium, where there is one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sqlalchemy.orm import Session, sessionmaker

from app.main import create_app
from app.projects.service import NewKey
from app.settings import Settings
from tests.app.served import Served, serve
from tests.page import world
from tests.page.world import World

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WIDE = {"width": 1180, "height": 860}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(PROGRAMS)} is installed")
    # Chromium's sandbox refuses to be root's.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    with serve(create_app(settings)) as served:
        yield served


@pytest.fixture
def there(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey, tmp_path: Path
) -> World:
    return world.make(sessions, settings, key, tmp_path / "made")


@pytest.fixture
def context(browser: Browser, served: Served) -> Iterator[BrowserContext]:
    made = browser.new_context(base_url=served.url, viewport=WIDE, locale="en-GB")  # type: ignore[arg-type] # a dict of its two numbers
    yield made
    made.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console says: errors, and what the policy refused."""
    return []


@pytest.fixture
def page(context: BrowserContext, complaints: list[str]) -> Page:
    page = context.new_page()
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


@pytest.fixture
def signed_in(page: Page, key: NewKey) -> Page:
    page.goto("/")
    page.get_by_label("API key").fill(key.key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Jobs", exact=True).wait_for()
    return page
