"""Who cannot see it, or sees it otherwise: axe-core finds nothing serious on any page."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.page.world import World

GRAVE = {"serious", "critical"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_grave_fault(
    page: Page,
    signed_in: Page,
    there: World,
    theme: Literal["light", "dark"],
    complaints: list[str],
) -> None:
    axe, found = Axe(), []
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    for path in (*there.paths().values(), "/ui/none", "/ui/sign-in"):
        signed_in.goto(path)
        # What is folded is looked at too.
        signed_in.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        answer = axe.run(signed_in)
        found += [
            f"{path}: {each['id']}: {each['nodes'][0]['html'][:200]}"
            for each in answer.response["violations"]
            if each["impact"] in GRAVE
        ]

    assert found == []
    assert not [said for said in complaints if "404" not in said]
