"""Looking at datasets, and deleting them."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.tables import Dataset
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage
from tests import datasets
from tests.jobs import job_row
from worker.dataset_sweeps import sweep_datasets


@pytest.fixture
def dataset(sessions: sessionmaker[Session], settings: Settings, key: NewKey) -> Dataset:
    return datasets.ready(sessions, settings, key.project_id)


def post_job(client: TestClient, spec: dict[str, object], dataset: Dataset) -> str:
    answer = client.post("/jobs", json=spec | {"dataset": dataset.id})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_dataset_shows_what_is_in_it(client: TestClient, dataset: Dataset) -> None:
    shown = client.get(f"/datasets/{dataset.id}").json()

    assert (shown["status"], shown["name"], shown["error"]) == ("ready", "reviews", None)
    assert shown["profile"] == datasets.PROFILE


def test_a_list_shows_the_newest_first_and_no_profiles(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    made = [
        datasets.ready(sessions, settings, key.project_id, content=b"a,b\n%d,1\n" % number)
        for number in range(3)
    ]

    page = client.get("/datasets").json()

    assert [each["id"] for each in page["data"]] == [each.id for each in reversed(made)]
    assert "profile" not in page["data"][0]


def test_a_name_lists_its_versions_in_pages(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    first, _, last = (
        datasets.ready(sessions, settings, key.project_id, name=name, content=content)
        for name, content in (("a", b"x,y\n1,2\n"), ("b", b"x,y\n1,2\n"), ("a", b"x,y\n3,4\n"))
    )

    newest = client.get("/datasets", params={"name": "a", "limit": 1}).json()
    older = client.get(
        "/datasets", params={"name": "a", "limit": 1, "cursor": newest["next_cursor"]}
    ).json()
    other = client.get("/datasets", params={"name": "b", "cursor": newest["next_cursor"]})

    assert [each["id"] for each in newest["data"] + older["data"]] == [last.id, first.id]
    assert older["has_more"] is False
    assert other.json()["type"] == "/problems/cursor_of_another_list"


def test_a_deleted_dataset_is_gone_at_once_and_its_bytes_soon(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, dataset: Dataset
) -> None:
    storage = LocalStorage(settings.storage_dir)
    assert storage.path(dataset.storage_key).exists()

    assert client.delete(f"/datasets/{dataset.id}").status_code == 204
    assert client.get(f"/datasets/{dataset.id}").status_code == 404
    assert client.delete(f"/datasets/{dataset.id}").status_code == 404
    sweep_datasets(sessions, storage)

    assert not storage.path(dataset.storage_key).exists()
    with sessions() as session:
        assert session.get(Dataset, dataset.id) is None


def test_what_a_job_still_needs_is_not_deleted(
    client: TestClient, spec: dict[str, object], dataset: Dataset
) -> None:
    job_id = post_job(client, spec, dataset)

    refused = client.delete(f"/datasets/{dataset.id}")
    client.post(f"/jobs/{job_id}/cancel")
    taken = client.delete(f"/datasets/{dataset.id}")

    assert refused.status_code == 409
    assert refused.json()["type"] == "/problems/dataset_in_use"
    assert job_id in refused.json()["detail"]
    assert taken.status_code == 204


def test_a_job_outlives_its_dataset(
    client: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    spec: dict[str, object],
    dataset: Dataset,
) -> None:
    job_id = post_job(client, spec, dataset)
    client.post(f"/jobs/{job_id}/cancel")
    client.delete(f"/datasets/{dataset.id}")
    sweep_datasets(sessions, LocalStorage(settings.storage_dir))

    assert job_row(sessions, job_id).dataset_id is None
    assert client.get(f"/jobs/{job_id}").json()["spec"]["dataset"]["ref"] == dataset.id


def test_a_job_names_the_dataset_it_reads(
    client: TestClient, connection: Connection, spec: dict[str, object], dataset: Dataset
) -> None:
    job_id = post_job(client, spec, dataset)

    assert connection.scalar(select(Job.dataset_id).where(Job.id == job_id)) == dataset.id


@pytest.mark.parametrize("validate", ["", "?validate_only=true"])
def test_a_column_that_the_dataset_lacks_is_refused_at_once(
    client: TestClient, spec: dict[str, object], dataset: Dataset, validate: str
) -> None:
    named = {"ref": dataset.id, "columns": {"text": "review"}}

    answer = client.post(f"/jobs{validate}", json=spec | {"dataset": named})

    assert answer.status_code == 422
    assert answer.json()["field"] == "dataset.columns.text"
    assert "text, label" in answer.json()["remedy"]


def test_a_dataset_that_is_not_checked_is_a_409(
    client: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    key: NewKey,
    spec: dict[str, object],
) -> None:
    unchecked = datasets.store(sessions, settings, key.project_id)

    answer = client.post("/jobs", json=spec | {"dataset": unchecked.id})

    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/dataset_not_ready")


def test_another_projects_dataset_is_as_one_that_never_was(
    client: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    foreign_key: NewKey,
    spec: dict[str, object],
) -> None:
    foreign = datasets.ready(sessions, settings, foreign_key.project_id)
    answers = []
    for dataset_id in (foreign.id, "ds_" + "0" * 32):
        answer = client.post(
            "/jobs", json=spec | {"dataset": dataset_id}, headers={"X-Request-ID": "1"}
        )
        answers.append(answer.text.replace(dataset_id, "ID"))

    assert answers[0] == answers[1]
    assert "dataset_not_found" in answers[0]


def test_a_dataset_is_no_model(client: TestClient, spec: dict[str, object]) -> None:
    answer = client.post("/jobs", json=spec | {"model": "ds_" + "0" * 32})

    assert answer.json()["type"] == "/problems/model_not_found"
