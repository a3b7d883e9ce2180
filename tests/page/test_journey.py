"""One visit: a key, a job from its form to its files, live; another one is cancelled."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from tests.jobs import SPEC, claim, job_row, submit
from tests.page import world
from tests.page.world import World


def test_a_job_from_its_form_to_its_checkpoint(
    signed_in: Page,
    sessions: sessionmaker[Session],
    settings: Settings,
    tmp_path: Path,
    complaints: list[str],
) -> None:
    page = signed_in
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Model").fill(str(SPEC["model"]))
    page.get_by_label("Dataset").fill(str(SPEC["dataset"]))
    page.get_by_label("Sparsity").fill("0.9")
    page.get_by_label("dense", exact=True).check()
    page.get_by_label("packed", exact=True).check()
    page.get_by_role("button", name="Post the job").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("queued")

    # Nobody reloads it: it tells by itself what a worker does.
    job = claim(sessions)
    world.train(sessions, job, world.STEPS // 2)
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    expect(page.get_by_role("progressbar", name="Training done")).to_have_attribute(
        "value", "0.5000"
    )
    expect(page.get_by_role("status")).to_contain_text("is running")
    expect(page.get_by_role("img", name="Loss by step")).to_be_visible()
    world.finish(sessions, settings, job, tmp_path / "made")
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")

    # Its report, a chart as a table, and its bytes.
    expect(page.get_by_text("-1.4 points")).to_be_visible()
    expect(page.get_by_role("img", name="Share of zeros of each pruned matrix")).to_be_visible()
    page.get_by_text("As a table").last.click()
    expect(
        page.get_by_role("cell", name="bert.encoder.layer.0.attention.self.query.weight")
    ).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download packed").click()
    downloaded = Path(started.value.path()).read_bytes()
    shown = page.get_by_role("article", name="Format packed").inner_text()
    assert hashlib.sha256(downloaded).hexdigest() in shown
    assert complaints == []


def test_a_waiting_job_is_cancelled_once_that_is_confirmed(
    signed_in: Page, sessions: sessionmaker[Session], key: NewKey, complaints: list[str]
) -> None:
    job_id = submit(sessions, key.project_id)
    signed_in.goto(f"/ui/jobs/{job_id}")

    signed_in.get_by_text("Cancel", exact=True).click()
    assert job_row(sessions, job_id).status == "queued"
    signed_in.get_by_role("button", name="Cancel the job").click()

    expect(signed_in.get_by_role("heading", level=1)).to_contain_text("cancelled")
    assert job_row(sessions, job_id).status == "cancelled"
    assert complaints == []


def test_what_is_wrong_with_a_form_stands_at_its_field(signed_in: Page) -> None:
    signed_in.goto("/ui/jobs/new")
    signed_in.get_by_label("Model").fill(str(SPEC["model"]))
    signed_in.get_by_label("Dataset").fill(str(SPEC["dataset"]))
    signed_in.get_by_label("Sparsity").fill("90")
    signed_in.get_by_role("button", name="Post the job").click()

    field = signed_in.get_by_label("Sparsity")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("90")
    expect(field).to_have_accessible_description(re.compile("^a share, not per cent"))
    # What else was written is still there.
    expect(signed_in.get_by_label("Model")).to_have_value(str(SPEC["model"]))


def test_everything_is_reached_by_keyboard(signed_in: Page, there: World) -> None:
    signed_in.goto(f"/ui/jobs/{there.queued}")
    signed_in.keyboard.press("Tab")
    expect(signed_in.get_by_role("link", name="Skip to the content")).to_be_focused()
    signed_in.keyboard.press("Enter")

    reached = []
    for _ in range(30):
        signed_in.keyboard.press("Tab")
        reached.append(signed_in.evaluate("document.activeElement.textContent.trim()"))
        if reached[-1] == "Cancel":
            break
    assert reached[-1] == "Cancel"
    signed_in.keyboard.press("Enter")
    signed_in.keyboard.press("Tab")
    expect(signed_in.get_by_role("button", name="Cancel the job")).to_be_focused()


@pytest.mark.parametrize("path", ["/ui/jobs", "/ui/jobs/new", "running", "succeeded"])
def test_nothing_is_wider_than_a_phone(signed_in: Page, there: World, path: str) -> None:
    signed_in.set_viewport_size({"width": 390, "height": 844})
    signed_in.goto(path if path.startswith("/") else f"/ui/jobs/{getattr(there, path)}")

    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_snippet_is_copied_whole(signed_in: Page, there: World) -> None:
    signed_in.context.grant_permissions(["clipboard-read", "clipboard-write"])
    signed_in.goto(f"/ui/jobs/{there.succeeded}")
    signed_in.get_by_text("Post it again with curl").click()

    signed_in.get_by_role("button", name="Copy: The same job").click()

    copied = str(signed_in.evaluate("navigator.clipboard.readText()"))
    assert copied.startswith("curl -X POST ")
    body = json.loads(copied.split("-d '", 1)[1].rstrip("'"))
    assert body["model"] == SPEC["model"]
