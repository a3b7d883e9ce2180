"""``pst jobs``: what it posts, prints, waits for, and exits with."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Kind
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage
from pst_core.report import Gate
from pst_core.spec import CompressionSpec
from tests.app.commands.conftest import Pst
from tests.app.conftest import SPEC
from tests.app.tampering import way_to
from tests.artifacts import announce, describe
from tests.jobs import bring_to, event_types, submit
from tests.published import publish
from tests.reports import report

CREATE = (
    *("jobs", "create", "--model", str(SPEC["model"]), "--dataset", str(SPEC["dataset"])),
    *("--sparsity", "0.9"),
)


def outcome(job: Job, gate: Gate | None) -> dict[str, Any]:
    made = report(CompressionSpec.model_validate(job.spec))
    changed = made.outcome.model_copy(update={"gate": gate})
    return made.model_copy(update={"outcome": changed}).model_dump(mode="json")


def test_create_posts_what_its_options_say_and_prints_the_id(pst: Pst) -> None:
    changes = ("--set", "hyperparameters.epochs=1", "--set", "dataset.columns.text=source")
    job_id = pst.say(*CREATE, "--format", "dense", "--metadata", "team=a", *changes)

    (job,) = pst.read("jobs", "get", job_id)
    assert job["spec"]["formats"] == ["dense"]
    assert job["spec"]["hyperparameters"] == {"epochs": 1}
    assert job["spec"]["dataset"]["columns"]["text"] == "source"
    assert job["metadata"] == {"team": "a"}


def test_a_spec_may_come_from_a_file_and_options_change_it(pst: Pst, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(SPEC | {"seed": 7}), encoding="utf-8")

    spec = str(tmp_path / "spec.json")
    (job,) = pst.read("jobs", "create", "--spec", spec, "--sparsity", "0.5")

    assert (job["spec"]["seed"], job["spec"]["sparsity"]) == (7, 0.5)
    piped = pst.run("jobs", "create", "--spec", "-", "--json", stdin=json.dumps(SPEC))
    assert json.loads(piped.stdout)["spec"]["sparsity"] == 0.9
    assert pst.run("jobs", "create", "--spec", str(tmp_path)).exit_code == 2


def test_validating_stores_nothing(pst: Pst) -> None:
    (resolved,) = pst.read(*CREATE, "--validate-only")

    assert resolved["hyperparameters"]["epochs"] > 0
    assert pst.read("jobs", "list") == []


def test_a_wrong_spec_exits_with_2_and_names_field_and_remedy_on_stderr(pst: Pst) -> None:
    result = pst.run(*CREATE, "--set", "colour=red")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "colour" in result.stderr
    assert "remedy: " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 3), ("cancelled", 4)])
def test_waiting_exits_with_how_the_job_has_ended(
    pst: Pst, sessions: sessionmaker[Session], key: NewKey, state: str, code: int
) -> None:
    job_id = bring_to(sessions, key.project_id, state)

    result = pst.run("jobs", "watch", job_id, "--json")

    assert result.exit_code == code
    assert json.loads(result.stdout)["status"] == state
    assert state in result.stderr


@pytest.mark.parametrize(("drop", "code"), [(0.5, 0), (2.5, 5)])
def test_a_missed_gate_is_told_and_has_a_status_of_its_own(
    pst: Pst,
    sessions: sessionmaker[Session],
    settings: Settings,
    running: Job,
    checkpoints: dict[str, Path],
    drop: float,
    code: int,
) -> None:
    gate = Gate(limit=1.0, drop=drop, passed=drop <= 1.0)
    publish(sessions, settings, running, checkpoints, result=outcome(running, gate))

    result = pst.run("jobs", "watch", running.id)

    assert result.exit_code == code
    assert ("MISSED" in result.stdout) == (code == 5)


def test_waiting_with_a_folder_leaves_every_format_in_it(
    pst: Pst, finished: Job, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    result = pst.run("jobs", "watch", finished.id, "--download", str(tmp_path / "out"))

    assert result.exit_code == 0, result.stderr
    for name, folder in checkpoints.items():
        got = tmp_path / "out" / f"{finished.id}-{name}" / "pst.json"
        assert got.read_bytes() == (folder / "pst.json").read_bytes()


def test_a_key_that_is_refused_is_told_where_it_comes_from(pst: Pst) -> None:
    refused = pst.run("jobs", "list", PST_API_KEY="pst_no")

    assert "Set PST_API_KEY" in refused.stderr
    assert "Authorization" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "code"),
    [
        (("jobs", "get", "job_0"), {}, 7),
        (("jobs", "list"), {"PST_API_KEY": "pst_no"}, 6),
        (("--patience", "0", "jobs", "list"), {"PST_URL": "http://127.0.0.1:1"}, 8),
        (("jobs", "list", "--status", "asleep"), {}, 2),
        (("--profile", "nobody", "jobs", "list"), {}, 2),
    ],
)
def test_errors_have_a_status_and_no_traceback(
    pst: Pst, arguments: tuple[str, ...], variables: dict[str, str], code: int
) -> None:
    result = pst.run(*arguments, **variables)

    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_what_a_state_does_not_allow_exits_with_1(
    pst: Pst, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = bring_to(sessions, key.project_id, "succeeded")

    assert pst.run("jobs", "cancel", job_id).exit_code == 1


def test_changed_bytes_exit_with_9_and_leave_nothing(
    pst: Pst, finished: Job, tmp_path: Path
) -> None:
    with way_to(pst.variables["PST_URL"]) as way:
        way.change = lambda data: data.replace(bytes(range(200)), bytes(200))
        command = ("jobs", "download", finished.id, "--to", str(tmp_path / "it.tar"))
        result = pst.run(*command, PST_URL=way.url)

    assert result.exit_code == 9
    assert list(tmp_path.glob("*it.tar*")) == []


def test_a_download_tells_where_it_is(pst: Pst, finished: Job, tmp_path: Path) -> None:
    (found,) = pst.read("jobs", "download", finished.id, "--to", str(tmp_path), "--unpack")

    assert found["format"] == "packed"
    assert (Path(found["path"]) / "config.json").is_file()


def test_an_interrupted_wait_tells_that_the_job_goes_on(
    pst: Pst, sessions: sessionmaker[Session], key: NewKey
) -> None:
    job_id = submit(sessions, key.project_id)
    with pst.start("jobs", "watch", job_id) as process:
        assert process.stderr is not None
        assert "queued" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        told = process.communicate()[1]

    assert process.returncode == 130
    assert f"pst jobs watch {job_id}" in told
    assert f"pst jobs cancel {job_id}" in told
    assert event_types(sessions, job_id) == ["queued"]


def test_jobs_are_acted_on_and_deleted(pst: Pst) -> None:
    job_id = pst.say(*CREATE)

    for action, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert pst.read("jobs", action, job_id)[0]["status"] == status
    assert "queued" in pst.say("jobs", "retry", job_id)
    pst.say("jobs", "delete", job_id)
    assert pst.run("jobs", "get", job_id).exit_code == 7


def test_lists_are_columns_for_people_and_lines_for_programs(pst: Pst) -> None:
    job_id = pst.say(*CREATE, "--metadata", "team=a")

    assert [job["id"] for job in pst.read("jobs", "list", "--metadata", "team=a")] == [job_id]
    assert pst.read("jobs", "list", "--status", "running") == []
    shown = pst.run("jobs", "list", FORCE_COLOR="1")
    assert job_id in shown.stdout.splitlines()[1]
    assert "\x1b" not in shown.output


def test_the_log_of_a_running_job_is_printed(
    pst: Pst,
    sessions: sessionmaker[Session],
    settings: Settings,
    running: Job,
    checkpoints: dict[str, Path],
) -> None:
    text = b"first\nsecond\nthird\n"
    log = announce(sessions, running, Kind.LOG, "log-0")
    assert log
    with LocalStorage(settings.storage_dir).write(f"{running.id}/a1/log-0") as stored:
        stored.write(text)
    assert describe(sessions, log, size=len(text), state="ready")
    assert pst.say("jobs", "logs", running.id) == "first\nsecond\nthird"
    assert pst.read("jobs", "logs", "-n", "1", running.id) == [{"line": "third"}]

    publish(sessions, settings, running, checkpoints)
    assert pst.say("jobs", "logs", "--follow", "--tail", "2", running.id) == "second\nthird"


def test_events_and_report_are_told(
    pst: Pst,
    sessions: sessionmaker[Session],
    settings: Settings,
    running: Job,
    checkpoints: dict[str, Path],
) -> None:
    publish(sessions, settings, running, checkpoints, result=outcome(running, None))

    assert [event["type"] for event in pst.read("jobs", "events", running.id)][-1] == "succeeded"
    assert "started  worker: test" in pst.say("jobs", "events", running.id)
    assert pst.read("jobs", "report", running.id)[0]["outcome"]["sparsity"] == 0.5
    assert "accuracy" in pst.say("jobs", "report", running.id)
