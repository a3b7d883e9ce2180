"""A sweep on the page: its front, and what is picked of it."""

import pytest
from fastapi.testclient import TestClient

from app.projects.service import NewKey
from tests.app.sweeps.conftest import Post, Succeed
from tests.app.web.conftest import HERE, sign_in


@pytest.fixture
def user(client: TestClient, key: NewKey) -> TestClient:
    client.headers.update(HERE)
    return sign_in(client, key)


def test_a_sweep_is_listed_and_shown_with_its_front(
    user: TestClient, post: Post, succeed: Succeed
) -> None:
    sweep = post()
    assert "No job of the sweep has succeeded yet" in user.get(f"/ui/sweeps/{sweep['id']}").text
    jobs = [succeed(0.8, 90), succeed(0.7, 60)]

    shown = user.get(f"/ui/sweeps/{sweep['id']}").text

    assert sweep["id"] in user.get("/ui/sweeps").text
    assert "<svg" in shown
    # The style sheet has what the picture brings along where it stands alone.
    assert "<style" not in shown
    assert shown.count("<td>yes</td>") == 2
    for job in jobs:
        assert f"/ui/jobs/{job.id}" in shown


@pytest.mark.parametrize("form", [{"max_bytes": "70"}, {"min_metric": "0.5"}])
def test_what_is_asked_for_is_picked(
    user: TestClient, post: Post, succeed: Succeed, form: dict[str, str]
) -> None:
    sweep = post()
    succeed(0.8, 90)
    small = succeed(0.7, 60)

    user.post(f"/ui/sweeps/{sweep['id']}/pick", data=form)

    assert user.get(f"/sweeps/{sweep['id']}").json()["pick"]["job_id"] == small.id


@pytest.mark.parametrize(
    ("form", "status"), [({"max_bytes": "1"}, 409), ({"min_metric": "good"}, 422)]
)
def test_what_cannot_be_picked_is_told_of(
    user: TestClient, post: Post, succeed: Succeed, form: dict[str, str], status: int
) -> None:
    sweep = post()
    succeed(0.8, 90)

    assert user.post(f"/ui/sweeps/{sweep['id']}/pick", data=form).status_code == status
    assert user.get(f"/sweeps/{sweep['id']}").json()["pick"] is None


def test_a_sweep_is_paused_resumed_cancelled_and_deleted(user: TestClient, post: Post) -> None:
    url = f"/ui/sweeps/{post()['id']}"

    for action, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert f'pill {status}"' in user.post(f"{url}/{action}").text
    assert user.post(f"{url}/delete").url.path == "/ui/sweeps"
    assert user.get(url).status_code == 404
