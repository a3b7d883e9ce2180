"""However an attempt goes, the job says so, and nothing of it stays behind.

The trainers are small scripts that tell events and write files as the real one does.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from app.db import sync_engine
from app.jobs.tables import JobEvent
from app.projects.service import NewKey
from app.settings import Settings
from pst_core.events import AnsweredEvent
from pst_core.spec import Limits
from tests.jobs import submit
from tests.worker.bench import AWAY, COMPRESS, REPORT, SPEC, VERIFY, Bench, claimed
from worker import process
from worker.attempt import Attempt
from worker.deadlines import Deadlines


@pytest.fixture
def settings(settings: Settings, file_root: Path) -> Settings:
    (file_root / "model").mkdir()
    (file_root / "model" / "config.json").write_text("{}")
    (file_root / "data.csv").write_text("text,label\n")
    return settings.model_copy(update={"lease_seconds": 60})


@pytest.fixture
def spec() -> dict[str, Any]:
    return SPEC


@pytest.fixture
def bench(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    spec: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    script = tmp_path / "trainer.py"
    monkeypatch.setattr(process, "CHILD", ("-I", "-S", str(script)))
    submit(sessions, key.project_id, spec=spec)
    with claimed(settings, sessions, script) as bench:
        yield bench


def test_a_job_whose_trainer_and_verifier_end_well_succeeds(bench: Bench) -> None:
    job = bench.run()

    assert job.status == "succeeded"
    assert job.result == REPORT
    assert (job.error, job.worker, job.lease_until, job.phase) == (None, None, None, None)
    assert bench.types == ["queued", "started", "phase", "phase", "phase", "succeeded"]


def test_what_a_job_publishes_is_what_its_row_says(bench: Bench) -> None:
    bench.run()

    [artifact] = bench.artifacts("ready")
    [path] = bench.objects()
    content = path.read_bytes()
    assert path == bench.attempt.settings.storage_dir / artifact.storage_key
    assert artifact.size == len(content)
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert [file["name"] for file in artifact.files] == ["config.json"]


def test_both_tasks_get_the_spec_the_sources_and_one_folder(bench: Bench) -> None:
    copy = 'pathlib.Path(__file__).with_name(task["task"]).write_text(json.dumps(task))'
    bench.run(f"{copy}\n{COMPRESS}", f"{copy}\n{VERIFY}")

    tasks = [
        json.loads(bench.script.with_name(name).read_text()) for name in ("compress", "verify")
    ]
    root = bench.attempt.settings.file_roots[0]
    for task in tasks:
        assert task["spec"] == bench.attempt.held.job.spec
        assert task["sources"]["model"] == str(root / "model")
        assert task["sources"]["dataset"] == str(root / "data.csv")
    assert tasks[0]["out"] == tasks[1]["out"]


def test_a_failure_the_trainer_tells_of_is_the_jobs(bench: Bench) -> None:
    job = bench.run(
        'tell("failure", code="non_finite_loss", message="Step 7.", field="seed", remedy="Try.")\n'
        "sys.exit(1)"
    )

    assert job.status == "failed"
    assert job.error == {
        "code": "non_finite_loss",
        "message": "Step 7.",
        "field": "seed",
        "remedy": "Try.",
        "retryable": False,
    }
    assert bench.types == ["queued", "started", "failed"]
    with bench.sessions() as session:
        event = session.scalars(select(JobEvent).where(JobEvent.type == "failed")).one()
    assert event.data == {"error": job.error}


def test_what_was_told_before_a_failure_is_kept(bench: Bench) -> None:
    bench.run('tell("phase", phase="preparing")\ntell("failure", code="internal", message="No.")')

    assert bench.types == ["queued", "started", "phase", "failed"]


def test_a_checkpoint_the_verifier_refuses_is_not_published(bench: Bench) -> None:
    job = bench.run(verify='tell("failure", code="sparsity_missed", message="0.8")\nsys.exit(1)')

    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "sparsity_missed"
    assert bench.objects() == []


@pytest.mark.parametrize(
    "line",
    [
        'say("no json")',
        'say("")',
        'say("null")',
        'tell("phase", phase="dancing")',
        'tell("phase", phase="training", job="job_another")',
        'tell("evaluation", stage="main", split="test", metric="f1", value=float("nan"))',
        'tell("failure", code="internal", message="a NUL: \\0")',
        'tell("failure", code="internal", message="half a pair: \\ud800")',
        'os.write(task["events"], b"\\xff\\n")',
    ],
)
def test_a_line_that_is_no_event_fails_the_job_with_protocol(bench: Bench, line: str) -> None:
    job = bench.run(f"{line}\n{COMPRESS}")

    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "protocol"
    assert bench.objects() == []


def test_a_trainer_that_tells_no_result_fails_the_job_with_protocol(bench: Bench) -> None:
    job = bench.run("export()")

    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "protocol")


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        ("os.kill(os.getpid(), signal.SIGUSR1)", "killed by signal 10"),
        ("sys.exit(3)", "exited with 3"),
    ],
)
def test_a_trainer_that_ends_badly_without_a_word_has_crashed(
    bench: Bench, end: str, how: str
) -> None:
    job = bench.run(f"{COMPRESS}\n{end}")

    assert job.status == "queued"
    error = bench.last_event().data["error"]
    assert error["code"] == "trainer_crashed"
    assert how in error["message"]
    assert bench.artifacts("ready") == []


@pytest.mark.parametrize(("before", "status"), [(0, "queued"), (1, "queued"), (2, "failed")])
def test_a_crash_is_tried_again_until_too_many_in_a_row(
    bench: Bench, before: int, status: str
) -> None:
    bench.attempt.held.job.failed_attempts = before
    job = bench.run("os.abort()")

    assert (job.status, job.failed_attempts, job.lost_attempts) == (status, before + 1, 0)


def test_a_crash_after_the_job_got_further_is_the_first_in_a_row(bench: Bench) -> None:
    bench.attempt.held.job.failed_attempts = 2
    job = bench.run("snapshot(7)\nos.abort()")

    assert (job.status, job.failed_attempts) == ("queued", 1)


def test_a_failure_that_another_attempt_would_meet_again_is_not_tried_again(bench: Bench) -> None:
    job = bench.run('tell("failure", code="out_of_memory", message="Too large.")')

    assert (job.status, job.failed_attempts) == ("failed", 1)


def test_a_job_that_may_succeed_elsewhere_waits_before_it_is_tried_again(bench: Bench) -> None:
    bench.attempt.settings = bench.attempt.settings.model_copy(update={"backoff_seconds": 60})
    job = bench.run('tell("failure", code="disk_full", message="No room.", retryable=True)')

    assert job.status == "queued"
    assert bench.last_event().data["reason"] == "disk_full"
    assert 50 < (job.not_before - bench.last_event().created_at).total_seconds() < 70


def test_a_trainer_that_somebody_else_stops_is_a_loss_of_infrastructure(bench: Bench) -> None:
    job = bench.run("os.kill(os.getpid(), signal.SIGTERM)")

    assert (job.status, job.lost_attempts, job.failed_attempts) == ("queued", 1, 0)
    assert bench.last_event().data == {"reason": "trainer_stopped"}


def test_a_paused_job_keeps_the_snapshot_its_trainer_made_when_it_was_stopped(
    bench: Bench,
) -> None:
    trainer = """
def stop(*_):
    snapshot(12)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
wait_to_be_stopped()
"""
    job = bench.run_until_training(bench.ask_to_pause, trainer)

    assert (job.status, job.pause_requested) == ("paused", False)
    assert bench.types[-3:] == ["pause_requested", "snapshot", "paused"]
    [snapshot] = bench.artifacts("ready")
    assert (snapshot.kind, snapshot.name, snapshot.step) == ("snapshot", "step-00000012", 12)


def test_a_trainer_that_does_not_stop_in_time_is_killed_and_the_job_paused(bench: Bench) -> None:
    bench.attempt.settings = bench.attempt.settings.model_copy(update={"grace_seconds": 0.2})
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwait_to_be_stopped()"
    job = bench.run_until_training(bench.ask_to_pause, ignore)

    assert job.status == "paused"
    assert not bench.trainer_runs


def test_an_attempt_starts_with_the_two_newest_snapshots_of_those_before(bench: Bench) -> None:
    bench.run("for step in (3, 5, 8):\n    snapshot(step)\nos.abort()")
    bench.claim_again()
    bench.run(
        'folder = pathlib.Path(task["snapshots"]["folder"])\n'
        'print({path.name: (path / "state.json").read_text() for path in sorted(folder.iterdir())})'
    )

    assert bench.log() == "{'step-00000005': '5', 'step-00000008': '8'}\n"


def test_a_snapshot_whose_bytes_have_changed_is_given_up_with_an_event(bench: Bench) -> None:
    bench.run("snapshot(3)\nsnapshot(5)\nos.abort()")
    newest = max(bench.artifacts("ready"), key=lambda artifact: artifact.step or 0)
    path = bench.attempt.settings.storage_dir / newest.storage_key
    path.write_bytes(path.read_bytes()[:-1])
    bench.claim_again()
    bench.run('print(sorted(os.listdir(task["snapshots"]["folder"])))')

    assert bench.log() == "['step-00000003']\n"
    assert "snapshot_rejected" in bench.types


def test_what_both_trainers_print_is_the_jobs_log(bench: Bench) -> None:
    bench.run(f"print('one', flush=True)\n{COMPRESS}", f"print('two')\n{VERIFY}")

    assert bench.log() == "one\ntwo\n"


def test_a_trainer_that_reports_the_same_step_for_ever_makes_no_progress(bench: Bench) -> None:
    bench.attempt.settings = bench.attempt.settings.model_copy(update={"no_progress_seconds": 0.5})
    job = bench.run("""
import time
while True:
    tell("progress", stage="main", step=1, total_steps=9, loss=1.0, sparsity=0.0,
         learning_rate=0.0, eta_seconds=1.0)
    time.sleep(0.05)
""")

    assert job.status == "queued"
    assert bench.last_event().data["reason"] == "no_progress"
    assert not bench.trainer_runs


def test_what_a_baseline_answers_is_progress_and_not_recorded(bench: Bench) -> None:
    job = bench.run(f'tell("answered", rows=3, total_rows=20)\n{COMPRESS}')
    assert job.status == "succeeded"
    assert "answered" not in bench.types

    deadlines = Deadlines(Limits(), wall_at=math.inf, patience=60.0, moved_at=-math.inf)
    deadlines.note(AnsweredEvent(rows=3, total_rows=20))
    deadlines.check()


def test_a_cancelled_job_ends_with_its_trainer(bench: Bench) -> None:
    job = bench.run_until_training(bench.ask_to_cancel)

    assert job.status == "cancelled"
    assert job.finished_at is not None
    assert bench.types == ["queued", "started", "phase", "cancel_requested", "cancelled"]
    assert not bench.trainer_runs


def test_a_worker_that_is_shut_down_gives_its_job_back(bench: Bench) -> None:
    job = bench.run_until_training(bench.attempt.stopping.set)

    assert job.status == "queued"
    assert (job.worker, job.lease_until, job.phase, job.finished_at) == (None, None, None, None)
    assert job.lost_attempts == 0
    assert bench.types == ["queued", "started", "phase", "requeued"]
    assert not bench.trainer_runs


def test_a_job_that_was_to_be_cancelled_is_not_given_back(bench: Bench) -> None:
    def cancel_and_shut_down() -> None:
        bench.ask_to_cancel()
        bench.attempt.stopping.set()

    bench.stop_renewing()
    job = bench.run_until_training(cancel_and_shut_down)

    assert job.status == "cancelled"


def test_a_trainer_stopped_together_with_its_worker_has_not_crashed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "TICK", 60)
    bench.attempt.stopping.set()
    job = bench.run("os.kill(os.getpid(), signal.SIGTERM)")

    assert (job.status, job.error) == ("queued", None)


def test_an_attempt_that_lost_its_job_writes_nothing_more(bench: Bench) -> None:
    job = bench.run_until_training(bench.give_away)

    assert (job.status, job.attempt, job.error) == ("running", 2, None)
    assert bench.types == ["queued", "started", "phase"]
    assert bench.objects() == []
    assert not bench.trainer_runs


def test_a_job_that_is_lost_while_it_is_published_is_not_finished_by_us(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_lose(*_: object, **__: object) -> dict[str, object]:
        bench.give_away()
        return {}

    monkeypatch.setattr("worker.attempt.write_archive", write_and_lose)
    job = bench.run()

    assert (job.status, job.attempt, job.result) == ("running", 2, None)
    assert bench.artifacts("ready") == []


@pytest.mark.parametrize("planted", ["symlink_to", "hardlink_to"])
def test_a_link_among_the_outputs_fails_the_job_and_publishes_nothing(
    bench: Bench, tmp_path: Path, planted: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    job = bench.run(
        f'export()\n(out / "packed" / "vocab.txt").{planted}({str(secret)!r})\nsay(RESULT)'
    )

    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "protocol")
    assert bench.artifacts("ready") == []
    assert bench.objects() == []


def test_a_file_name_that_is_no_text_fails_the_job(bench: Bench) -> None:
    job = bench.run(
        'export()\n(out / "packed" / os.fsdecode(b"\\xff")).write_text("")\nsay(RESULT)'
    )

    assert job.status == "failed"


def test_a_missing_output_folder_fails_the_job(bench: Bench) -> None:
    job = bench.run("say(RESULT)")

    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "protocol")


def test_a_reference_that_leads_nowhere_any_more_fails_the_job(
    bench: Bench, file_root: Path
) -> None:
    (file_root / "data.csv").unlink()
    job = bench.run()

    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "invalid_dataset")
    assert job.error["field"] == "dataset.ref"
    assert not bench.script.with_name("pid").exists()


class TestWithAWallLimit:
    @pytest.fixture
    def spec(self) -> dict[str, Any]:
        return {**SPEC, "limits": {"wall_seconds": 10}}

    def test_a_job_over_its_wall_limit_in_all_fails_with_timeout(self, bench: Bench) -> None:
        bench.attempt.held.job.ran_seconds = 11
        job = bench.run("wait_to_be_stopped()")

        assert job.error is not None
        assert (job.status, job.error["code"]) == ("failed", "timeout")
        assert job.error["field"] == "limits.wall_seconds"


def test_a_spec_this_release_does_not_understand_fails_the_job(bench: Bench) -> None:
    bench.attempt.held.job.spec = {**bench.attempt.held.job.spec, "of_an_older_release": True}

    assert bench.run().status == "failed"


@pytest.mark.parametrize(
    "body", [COMPRESS, "sys.exit(1)", 'say("no event")', "os.abort()"], ids=str.split
)
def test_the_scratch_folder_is_gone_however_it_went(bench: Bench, body: str) -> None:
    bench.run(body)

    assert bench.attempt.settings.scratch_dir.is_dir()
    assert not bench.scratch.exists()


def test_an_attempt_that_lost_its_job_leaves_its_successors_scratch_folder_alone(
    bench: Bench,
) -> None:
    successors = bench.scratch / "a2" / "out"

    def give_away() -> None:
        successors.mkdir(parents=True)
        bench.give_away()

    bench.run_until_training(give_away)

    assert successors.exists()


def test_an_ending_waits_for_a_database_that_is_away(
    bench: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lose_database_until_the_first_retry(engine, monkeypatch)
    job = bench.run('tell("failure", code="internal", message="No.")')

    assert job.status == "failed"
    assert bench.types == ["queued", "started", "failed"]


def test_an_ending_is_given_up_with_the_lease(bench: Bench) -> None:
    bench.attempt.held = replace(bench.attempt.held, sessions=sessionmaker(sync_engine(AWAY)))
    bench.stop_renewing(lease_seconds=1)
    job = bench.run('tell("failure", code="internal", message="No.")')

    assert job.status == "running"


def test_publishing_waits_for_a_database_that_is_away(
    bench: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Attempt._publish

    def publish_without_database(attempt: Attempt, *arguments: Any) -> None:
        bench.lose_database_until_the_first_retry(engine, monkeypatch)
        publish(attempt, *arguments)

    monkeypatch.setattr(Attempt, "_publish", publish_without_database)

    assert bench.run().status == "succeeded"


def test_events_told_before_the_end_wait_for_a_database_that_is_away(
    bench: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lose_database_until_the_first_retry(engine, monkeypatch)
    bench.run('tell("phase", phase="preparing")\ntell("failure", code="internal", message="No.")')

    assert bench.types == ["queued", "started", "phase", "failed"]
