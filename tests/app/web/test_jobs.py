"""Jobs on the page: the list, one of them, and what is asked of it."""

from fastapi.testclient import TestClient

from app.jobs.tables import Job


def test_smoke(user: TestClient, finished: Job) -> None:
    for path in (
        "/",
        "/ui/jobs",
        "/ui/jobs/new",
        f"/ui/jobs/{finished.id}",
        "/ui/sweeps",
        "/ui/datasets",
        "/ui/keys",
        "/ui/webhooks",
    ):
        answer = user.get(path)
        assert answer.status_code == 200, answer.text
        assert "<h1" in answer.text
