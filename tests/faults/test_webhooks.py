"""Whatever ends hard between a job's move and its receiver: it is told, and by the same id."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from app.webhooks.tables import State
from tests.faults.crashing import courier, crash, run, serving, supervisor
from tests.faults.test_crash_points import ARRIVALS, POST_ARRIVALS
from tests.faults.toy import SPEC, make_toy
from tests.jobs import submit
from tests.receiver import Receiver, receiving
from tests.webhooks import add_endpoint, allowing, delivery_rows, let_pass

COURIER_ARRIVALS = ["webhook:claimed", "webhook:sent", "webhook:recorded"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def settings(settings: Settings, file_root: Path, receiver: Receiver) -> Settings:
    make_toy(file_root)
    return allowing(settings, receiver.port, lease_seconds=120)


@pytest.fixture(autouse=True)
def endpoint(
    sessions: sessionmaker[Session], settings: Settings, key: NewKey, receiver: Receiver
) -> str:
    return add_endpoint(sessions, settings, key.project_id, receiver.url)


def test_an_undisturbed_delivery_comes_by_all_these_moments(
    settings: Settings, sessions: sessionmaker[Session], key: NewKey, tmp_path: Path
) -> None:
    submit(sessions, key.project_id)
    run(courier, settings, tmp_path / "arrivals")

    assert (tmp_path / "arrivals").read_text().split() == COURIER_ARRIVALS


@pytest.mark.parametrize("crash_at", range(len(COURIER_ARRIVALS)), ids=COURIER_ARRIVALS)
def test_what_a_sender_leaves_that_ends_hard_is_sent_by_the_next(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    receiver: Receiver,
    tmp_path: Path,
    crash_at: int,
) -> None:
    submit(sessions, key.project_id)
    crash(courier, settings, tmp_path / "arrivals", crash_at)
    let_pass(sessions, 3600)
    run(courier, settings, tmp_path / "more")

    (row,) = delivery_rows(sessions)
    assert row.state == State.DELIVERED
    # Twice where it had arrived and nobody had written so.
    twice = COURIER_ARRIVALS[crash_at] == "webhook:sent"
    assert receiver.ids == (2 if twice else 1) * [row.id]


def test_an_end_is_told_although_the_supervisor_died_just_after_its_commit(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    submit(sessions, key.project_id, spec=SPEC)
    crash(supervisor, settings, tmp_path / "arrivals", ARRIVALS.index("attempt:ended"))
    run(courier, settings, tmp_path / "more")

    assert receiver.types == ["job.queued", "job.started", "job.succeeded"]


def test_an_end_that_was_not_committed_is_not_told(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    submit(sessions, key.project_id, spec=SPEC)
    crash(supervisor, settings, tmp_path / "arrivals", ARRIVALS.index("attempt:ending"))
    run(courier, settings, tmp_path / "more")

    assert receiver.types == ["job.queued", "job.started"]


@pytest.mark.parametrize("moment", ["request:done", "request:committed"])
def test_a_post_is_told_exactly_if_it_was_committed(
    settings: Settings, key: NewKey, receiver: Receiver, tmp_path: Path, moment: str
) -> None:
    headers = {"Authorization": f"Bearer {key.key}"}
    crash_at = POST_ARRIVALS.index(moment)
    with (
        serving(settings, tmp_path / "arrivals", crash_at) as url,
        suppress(httpx.TransportError),
    ):
        httpx.post(f"{url}/jobs", json=SPEC, headers=headers, trust_env=False, timeout=60)
    run(courier, settings, tmp_path / "more")

    assert receiver.types == (["job.queued"] if moment == "request:committed" else [])
