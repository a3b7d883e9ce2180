"""What supervisors tell, their worker counts; and Prometheus asks each process at its own port."""

import os
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.orm import Session, sessionmaker

from app.projects.service import NewKey
from app.settings import Settings
from app.telemetry.host import GpuCollector
from app.telemetry.listener import Role, listening
from app.telemetry.registry import new_registry
from tests.app.telemetry.scraping import parsed, samples
from tests.faults.toy import SPEC, environment, make_toy
from tests.jobs import submit
from worker.launcher import Launcher
from worker.observing import Observer
from worker.telemetry import AttemptMetrics, Listener


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def listener(registry: CollectorRegistry) -> Listener:
    return Listener(AttemptMetrics(registry))


def test_an_attempt_that_ran_is_counted_by_the_worker_that_outlives_it(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    file_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_toy(file_root)
    submit(sessions, key.project_id, spec=SPEC)
    given = settings.model_copy(update={"lease_seconds": 120})
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    launcher = Launcher(given, ["cpu"])

    launcher.run_next()

    told = launcher.registry
    assert samples(told, "pst_attempts_total") == {("succeeded", ""): 1}
    phases = samples(told, "pst_phase_duration_seconds_count")
    assert {phase for (phase,) in phases} >= {"preparing", "training", "verifying", "uploading"}
    assert samples(told, "pst_device_busy") == {("cpu",): 0}
    assert samples(told, "pst_supervisor_failures_total") == {(): 0}


def test_the_speed_of_training_is_told_while_it_lasts(
    listener: Listener, registry: CollectorRegistry
) -> None:
    listener.hear(b'{"what": "began", "device": "cuda:0"}')
    listener.hear(b'{"what": "stepped", "stage": "main", "steps": 30, "seconds": 2.0}')

    assert samples(registry, "pst_training_steps_per_second") == {("cuda:0",): 15}
    assert samples(registry, "pst_training_steps_total") == {("main",): 30}
    listener.ended(0, lost=False)
    assert samples(registry, "pst_training_steps_per_second") == {}
    assert samples(registry, "pst_device_busy") == {("cuda:0",): 0}


def test_a_lease_that_was_lost_is_counted_whoever_noticed(
    listener: Listener, registry: CollectorRegistry
) -> None:
    listener.hear(b'{"what": "ended", "outcome": "lost", "reason": ""}')
    listener.ended(os.EX_TEMPFAIL, lost=True)

    assert samples(registry, "pst_lease_losses_total") == {(): 2}


def test_what_a_trainer_calls_its_failure_makes_no_series(
    listener: Listener, registry: CollectorRegistry
) -> None:
    for reason in ("out_of_memory", "made_up_a", "made_up_b"):
        told = f'{{"what": "ended", "outcome": "failed", "reason": "{reason}"}}'
        listener.hear(told.encode())

    assert samples(registry, "pst_attempts_total") == {
        ("failed", "out_of_memory"): 1,
        ("failed", "other"): 2,
    }


def test_what_is_no_observation_costs_nothing(
    listener: Listener, registry: CollectorRegistry
) -> None:
    for line in (b"hello\n", b'{"what": "ended"}\n', b"\xff\n"):
        listener.hear(line)

    assert samples(registry, "pst_attempts_total") == {}


def test_a_supervisor_waits_for_nobody_to_hear_it() -> None:
    reader, writer = os.pipe()
    observer = Observer()
    observer.tell_to(writer)
    for _ in range(10_000):  # more than a pipe holds
        observer.ended("succeeded")
    os.close(reader)
    observer.ended("succeeded")
    os.close(writer)


@pytest.mark.usefixtures("engine")
def test_each_role_is_asked_at_its_own_port(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = settings.model_copy(update={"metrics_port": port})
    with listening(given, new_registry(given), Role.MAINTENANCE) as listens:
        assert listens == port + 2
        with urllib.request.urlopen(f"http://127.0.0.1:{listens}/metrics") as answer:
            names = {family.name for family in parsed(answer.read().decode())}

    assert {"pst_build_info", "process_resident_memory_bytes"} <= names


def test_nobody_listens_unless_a_port_is_set(settings: Settings) -> None:
    with listening(settings, CollectorRegistry(), Role.API) as listens:
        assert listens is None


def test_a_port_that_is_taken_costs_the_metrics_and_says_so(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = settings.model_copy(update={"metrics_port": taken.getsockname()[1]})
        with listening(given, CollectorRegistry(), Role.API) as listens:
            assert listens is None

    assert "set another PST_METRICS_PORT" in caplog.text


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="it has GPUs to tell of")
def test_a_host_without_gpus_tells_of_none(registry: CollectorRegistry) -> None:
    registry.register(GpuCollector())

    assert samples(registry, "pst_gpu_memory_used_bytes") == {}
