"""``pst keys`` and ``pst projects``: what an operator does at the console."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from app.cli import cli
from app.projects.service import NewKey
from app.settings import Settings


class Console:
    def __init__(self, settings: Settings) -> None:
        self.variables = {
            "PST_DATABASE_URL": settings.database_url or "",
            "PST_BROKER_URL": settings.broker_url or "",
        }

    def run(self, *arguments: str) -> Result:
        return self.pst("keys", *arguments)

    def pst(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), env=self.variables)

    def say(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that a command prints."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def console(settings: Settings, key: NewKey) -> Console:
    assert key.name == "test"  # the one that there is
    return Console(settings)


def may_read(client: TestClient, key: str) -> bool:
    return client.get("/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_key_is_made_with_all_scopes_but_admin(console: Console, anonymous: TestClient) -> None:
    (new,) = console.say("create", "--name", "ci")

    assert new["scopes"] == ["datasets:write", "jobs:read", "jobs:write"]
    assert new["project"] == "default"
    assert may_read(anonymous, new["key"])


def test_scopes_and_an_end_can_be_asked_for(console: Console) -> None:
    ends = ("--expires-in-days", "30")
    (new,) = console.say("create", "--name", "ro", "--scope", "jobs:read", *ends)

    assert new["scopes"] == ["jobs:read"]
    assert new["expires_at"] is not None


def test_keys_are_listed_without_their_secrets(console: Console, key: NewKey) -> None:
    listed = console.run("list").stdout

    assert key.id in listed
    assert key.key.split("_", 2)[2] not in listed
    assert [each["name"] for each in console.say("list")] == ["test"]


def test_a_key_is_rotated(console: Console, anonymous: TestClient, key: NewKey) -> None:
    (new,) = console.say("rotate", key.id, "--grace-hours", "0")

    assert may_read(anonymous, new["key"])
    assert not may_read(anonymous, key.key)


def test_a_key_is_revoked(console: Console, anonymous: TestClient, key: NewKey) -> None:
    assert console.run("revoke", key.id).exit_code == 0
    assert not may_read(anonymous, key.key)


def test_a_key_that_is_not_there_is_told(console: Console) -> None:
    result = console.run("revoke", "00000000")

    assert (result.exit_code, result.stderr) == (1, "pst: There is no such key.\n")


def test_a_project_is_given_quotas_of_its_own_and_the_installations_again(console: Console) -> None:
    shown = []
    for quotas in (("--queued-jobs", "5", "--stored-bytes", "7"), ("--running-jobs", "2"), ()):
        assert console.pst("projects", "limit", "default", *quotas).exit_code == 0
        shown.append(tuple(json.loads(console.pst("projects", "list").stdout).values()))

    assert shown == [
        ("default", 5, None, 7),
        ("default", None, 2, None),
        ("default", None, None, None),
    ]


def test_quotas_of_a_project_that_is_not_there_are_refused(console: Console) -> None:
    result = console.pst("projects", "limit", "nobody")

    assert (result.exit_code, result.stderr) == (1, "pst: There is no such project.\n")


def test_where_no_service_has_run_nothing_is_made(tmp_path: Path) -> None:
    data = tmp_path / "pst-data"
    nowhere = {"PST_DATA": str(data), "PST_DATABASE_URL": "", "PST_BROKER_URL": ""}
    made = CliRunner().invoke(cli, ["keys", "create", "--name", "ci"], env=nowhere)

    assert made.exit_code == 1
    (line,) = made.stderr.splitlines()
    assert str(data) in line
    assert "PST_DATA" in line
    assert not data.exists()
