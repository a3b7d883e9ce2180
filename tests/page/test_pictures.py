"""The pictures of docs/page.md, taken anew where PAGE_PICTURES names a folder."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from app.projects.service import NewKey
from tests.app.served import Served
from tests.page.world import World

FOLDER = os.environ.get("PAGE_PICTURES")
MOST_BYTES = 150_000
SIZES = {"light": (1180, 860), "dark": (1180, 860), "phone": (390, 844)}
# What the docs show; others, whole, are taken where they are named.
SHOWN = {"light": ("jobs", "job", "sweep", "new"), "dark": ("job",), "phone": ("running",)}
TALL = {"job": 1420}  # where the charts are further down
NAMES = os.environ.get("PAGE_NAMES", "").split()


@pytest.mark.skipif(not FOLDER, reason="PAGE_PICTURES names no folder; `make pictures` does")
def test_take_the_pictures(browser: Browser, served: Served, key: NewKey, there: World) -> None:
    folder = Path(FOLDER or "")
    folder.mkdir(parents=True, exist_ok=True)
    for theme, (width, height) in SIZES.items():
        context = browser.new_context(
            base_url=served.url,
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
        )
        page = context.new_page()
        page.goto("/")
        page.get_by_label("API key").fill(key.key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Jobs", exact=True).wait_for()
        for name in NAMES or SHOWN[theme]:
            tall = TALL.get(name, height)
            page.set_viewport_size({"width": width, "height": tall if width > height else height})
            page.goto(there.paths()[name])
            path = folder / f"{name}-{theme}.png"
            page.screenshot(path=path, full_page=bool(NAMES))
            assert NAMES or path.stat().st_size < MOST_BYTES
        context.close()
