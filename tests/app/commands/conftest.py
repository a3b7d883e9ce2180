"""The ``pst`` command against the real API over a socket, in this process and in others."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.projects.service import NewKey
from tests.app.served import Served
from tests.app.sweeps.conftest import succeed

__all__ = ["Pst", "pst", "succeed"]


@dataclass(frozen=True)
class Pst:
    variables: dict[str, str]

    def run(self, *arguments: str, stdin: str | None = None, **variables: str) -> Result:
        return CliRunner().invoke(cli, arguments, env=self.variables | variables, input=stdin)

    def say(self, *arguments: str) -> str:
        """What a command that goes well prints."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    def read(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that it prints."""
        return [json.loads(line) for line in self.say(*arguments, "--json").splitlines()]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            # Who runs the tests in the background has it ignore what a terminal's user sends.
            ["/usr/bin/env", "--default-signal=INT", sys.executable, "-P", "-m", "app", *arguments],
            env=os.environ | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def pst(served: Served, key: NewKey, tmp_path: Path) -> Pst:
    access = {"PST_URL": served.url, "PST_API_KEY": key.key}
    return Pst(access | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
