"""Datasets, keys, webhooks and sweeps on the page."""

import gzip
import re
from html import unescape

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker
from starlette.types import Message

from app.datasets.tables import Dataset
from app.keyring import Keyring
from app.projects.service import NewKey
from app.settings import Settings
from tests import datasets
from tests.webhooks import delivery_rows

CSV = datasets.CSV
KEY = re.compile(r"pst_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


@pytest.mark.parametrize(
    ("name", "content", "kind", "is_gzip"),
    [
        ("My reviews.csv", CSV, "csv", False),
        ("reviews.tsv.gz", gzip.compress(CSV), "tsv", True),
        ("big.jsonl", b"x" * 3_000_000, "jsonl", False),
    ],
)
def test_a_file_is_stored_as_it_was_sent(
    user: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    name: str,
    content: bytes,
    kind: str,
    is_gzip: bool,
) -> None:
    answer = user.post("/ui/datasets", data={"name": ""}, files={"file": (name, content)})

    assert answer.url.path.startswith("/ui/datasets/ds_"), answer.text
    with sessions() as session:
        stored = session.scalars(select(Dataset)).one()
    assert (stored.format, stored.gzip, stored.size) == (kind, is_gzip, len(content))
    assert stored.name == name.partition(".")[0].replace(" ", "-")
    assert (settings.storage_dir / stored.storage_key).read_bytes() == content


@pytest.mark.parametrize(
    ("status", "name", "file"),
    [(422, "", "reviews.exe"), (422, "../x", "reviews.csv"), (422, "", ".csv")],
)
def test_a_file_that_is_none_is_refused(
    user: TestClient, sessions: sessionmaker[Session], status: int, name: str, file: str
) -> None:
    answer = user.post("/ui/datasets", data={"name": name}, files={"file": (file, CSV)})

    assert answer.status_code == status
    with sessions() as session:
        assert session.scalar(select(func.count(Dataset.id))) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"--b\r\n",
        b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\ntext',
        b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"x" * 5000 + b"\r\n--b--",
    ],
)
def test_a_form_that_breaks_off_leaves_nothing(
    user: TestClient, sessions: sessionmaker[Session], content: bytes
) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    assert user.post("/ui/datasets", content=content, headers=headers).status_code == 400
    with sessions() as session:
        assert session.scalar(select(func.count(Dataset.id))) == 0


def test_a_form_of_many_fields_is_none(user: TestClient, sessions: sessionmaker[Session]) -> None:
    many = {f"field{number}": "x" * 4000 for number in range(10)}

    answer = user.post("/ui/datasets", data=many, files={"file": ("reviews.csv", CSV)})

    assert answer.status_code == 400
    with sessions() as session:
        assert session.scalar(select(func.count(Dataset.id))) == 0


def test_who_still_sends_a_form_holds_no_connection(
    api: FastAPI, user: TestClient, key: NewKey
) -> None:
    # The database is asked who this is.
    api.state.keyring = Keyring()
    held = list[int]()
    headers = {
        "content-type": "multipart/form-data; boundary=b",
        "sec-fetch-site": "same-origin",
        "cookie": f"pst_key={key.key}",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/ui/datasets",
        "raw_path": b"/ui/datasets",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> Message:
        held.append(api.state.engine.pool.checkedout())
        return {"type": "http.request"}

    async def send(_: Message) -> None:
        """Nobody listens any more."""

    assert user.portal is not None
    user.portal.call(api, scope, receive, send)

    assert held[0] == 0


def test_a_profile_and_its_preview_are_shown(
    user: TestClient, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    dataset = datasets.ready(sessions, settings, key.project_id)

    shown = user.get(f"/ui/datasets/{dataset.id}").text

    assert "40" in shown
    assert str(dataset.sha256) in shown
    assert dataset.id in user.get("/ui/datasets").text
    assert user.post(f"/ui/datasets/{dataset.id}/delete").url.path == "/ui/datasets"
    assert user.get(f"/ui/datasets/{dataset.id}").status_code == 404


def test_a_new_key_is_shown_once_and_works(user: TestClient) -> None:
    form = {"name": "<ci>", "scopes": ["jobs:read", "jobs:write"], "days": "30"}
    made = user.post("/ui/keys", data=form)
    (secret,) = KEY.findall(made.text)

    assert made.headers["cache-control"] == "no-store"
    listed = user.get("/ui/keys").text
    assert secret not in listed
    assert "&lt;ci&gt;" in listed
    bearer = {"Authorization": f"Bearer {secret}"}
    assert user.get("/jobs", headers=bearer).status_code == 200
    key_id = secret.split("_")[1]
    (successor,) = KEY.findall(user.post(f"/ui/keys/{key_id}/rotate").text)
    assert successor != secret
    assert user.post(f"/ui/keys/{key_id}/revoke").status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        {"name": "x"},
        {"name": "", "scopes": "admin"},
        {"name": "x", "scopes": "root"},
        {"name": "x", "scopes": "admin", "days": "9" * 5000},
    ],
    ids=["no scope", "no name", "no such scope", "too many days"],
)
def test_a_key_that_is_none_is_not_made(user: TestClient, form: dict[str, str]) -> None:
    answer = user.post("/ui/keys", data=form)

    assert answer.status_code == 422
    assert not KEY.findall(answer.text)


def test_an_endpoint_is_made_tried_switched_and_deleted(
    user: TestClient, sessions: sessionmaker[Session]
) -> None:
    made = user.post("/ui/webhooks", data={"url": "https://example.com/x", "description": "ci"})
    assert "whsec_" in made.text
    url = unescape(made.text).split('class="button" href="')[1].split('"')[0]
    assert "whsec_" not in user.get(url).text

    assert user.post(f"{url}/test").status_code == 200
    (delivery,) = delivery_rows(sessions)
    assert f"{delivery.id}/replay" in user.get(url).text
    assert user.post(f"{url}/deliveries/{delivery.id}/replay").status_code == 200
    assert "whsec_" in user.post(f"{url}/rotate-secret").text
    assert "switched off: asked" in user.post(f"{url}/switch", data={"enabled": "false"}).text
    assert user.post(f"{url}/test").status_code == 409
    user.post(f"{url}/delete")
    assert user.get(url).status_code == 404


def test_an_address_of_a_private_network_is_no_endpoint(user: TestClient) -> None:
    answer = user.post("/ui/webhooks", data={"url": "https://127.0.0.1/"})

    assert answer.status_code == 422
