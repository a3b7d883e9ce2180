"""Ordinary mistakes end ``pst`` with a line that says what to do, and the documented status."""

import json
from pathlib import Path

import pytest

from tests.app.commands.conftest import Pst
from tests.app.conftest import SPEC
from tests.app.scripted import Reply, Scripted, scripted

__all__ = ["scripted"]

CREATE = ("jobs", "create", "--model", str(SPEC["model"]), "--dataset", str(SPEC["dataset"]))


def test_a_used_up_quota_is_an_error_and_no_outage(pst: Pst, scripted: Scripted) -> None:
    body = b'{"type": "/problems/quota_exceeded", "detail": "Too many.", "remedy": "Wait."}'
    scripted.will(Reply(429, body))

    result = pst.run(*CREATE, PST_URL=scripted.url)

    assert (result.exit_code, result.stderr) == (1, "pst: Too many.\n  remedy: Wait.\n")
    assert scripted.paths() == ["/jobs"]


def test_a_key_with_an_ellipsis_is_told(pst: Pst) -> None:
    asked = pst.run("jobs", "list", PST_API_KEY="pst_…")
    logged_in = pst.run("login", stdin="pst_…\n")

    for result in (asked, logged_in):
        assert result.exit_code == 2
        assert result.stderr.startswith("pst: The API key has characters")
        assert "remedy: " in result.stderr


def test_an_address_that_is_none_is_told(pst: Pst) -> None:
    result = pst.run("--url", "http://h:port", "jobs", "list")

    assert result.exit_code == 2
    assert "'http://h:port' is no address of a service" in result.stderr
    assert "remedy: " in result.stderr


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--sparsity", "nan"), "sparsity"),
        (("--set", "hyperparameters.epochs=NaN"), "hyperparameters.epochs"),
        (("--spec", "SPEC"), "max_drop"),
    ],
    ids=["an option", "a field", "a file"],
)
def test_what_is_no_number_is_told_with_its_field(
    pst: Pst, tmp_path: Path, options: tuple[str, str], field: str
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text('{"max_drop": NaN}')

    result = pst.run(*CREATE, *(str(spec) if each == "SPEC" else each for each in options))

    assert result.exit_code == 2
    assert result.stderr.startswith(f"pst: {field}: nan is no number that JSON has.")
    assert "remedy: " in result.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "1e999"])
@pytest.mark.parametrize("dry", [("--dry-run",), ()], ids=["dry", "stored"])
def test_a_pick_by_what_is_no_number_is_told_with_its_field(
    pst: Pst, number: str, dry: tuple[str, ...]
) -> None:
    result = pst.run("sweeps", "pick", "swp_1", "--min-metric", number, *dry)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"pst: min_metric: {float(number)} is no number that JSON has.")
    assert "remedy: Give a finite number." in result.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "1e300"])
@pytest.mark.parametrize(
    "command",
    [
        ("--patience",),
        ("api-keys", "create", "--name", "ci", "--expires-in-days"),
        ("api-keys", "rotate", "key_1", "--grace-hours"),
        ("keys", "create", "--name", "ci", "--expires-in-days"),
        ("keys", "rotate", "key_1", "--grace-hours"),
    ],
    ids=" ".join,
)
def test_a_number_that_is_out_of_all_bounds_is_told_with_its_option(
    pst: Pst, command: tuple[str, ...], number: str
) -> None:
    result = pst.run(*command, number, *(("jobs", "list") if command == ("--patience",) else ()))

    assert result.exit_code == 2
    assert f"Invalid value for '{command[-1]}'" in result.stderr


def test_metadata_is_added_to_a_spec_that_has_none(pst: Pst, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({**SPEC, "metadata": None}))

    (job,) = pst.read("jobs", "create", "--spec", str(spec), "--metadata", "team=a")

    assert job["metadata"] == {"team": "a"}


def test_metadata_that_is_no_object_is_told(pst: Pst, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({**SPEC, "metadata": [1]}))

    result = pst.run("jobs", "create", "--spec", str(spec), "--metadata", "team=a")

    assert result.exit_code == 2
    assert "metadata holds no object" in result.stderr


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PST_DATABASE_URL": "mysql://u:planted@h/db"}, "PST_DATABASE_URL: must begin with post"),
        ({"PST_DATABASE_URL": "postgresql://u:plan/ted@h/d"}, "PST_DATABASE_URL: has no port: wr"),
        ({"PST_BROKER_URL": "amqp://u:planted@h"}, "PST_BROKER_URL: must begin with redis://"),
    ],
    ids=["another database", "a password that ends the host", "another broker"],
)
def test_an_address_of_no_server_of_ours_is_told_without_its_password(
    pst: Pst, variables: dict[str, str], told: str
) -> None:
    result = pst.run("keys", "list", **variables)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"pst: {told}")
    assert "plan" not in result.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_a_setting_that_is_no_number_is_named(pst: Pst, seconds: str) -> None:
    result = pst.run("keys", "list", PST_LEASE_SECONDS=seconds)

    assert result.exit_code == 1
    assert result.stderr.startswith("pst: PST_LEASE_SECONDS: Input should be a finite number.")


@pytest.mark.parametrize("command", [("db", "upgrade"), ("serve",), ("api",), ("keys", "list")])
def test_a_setting_that_cannot_be_is_named_and_its_value_is_not(
    pst: Pst, command: tuple[str, ...]
) -> None:
    result = pst.run(*command, PST_STORAGE_OPTIONS='{"planted"', PST_LEASE_SECONDS="-1")

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "PST_STORAGE_OPTIONS: must be a JSON object" in line
    assert "PST_LEASE_SECONDS: Input should be greater than 0" in line
    assert "unset it" in line
    assert "planted" not in line
