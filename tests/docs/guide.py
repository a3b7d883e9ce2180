"""Does what a page shows, in one of its languages, block after block, and keeps the answers.

Whether these are as shown is for the tests.
"""

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests.docs.pages import Block

STATUS = re.compile(r"  # (\d{3})$")
CURLRC = """silent
noproxy = "*"
write-out = "\\n--%{http_code}--\\n"
"""
PLACE = re.compile(r"export (\w+)=\w+_…")
ANSWERED = re.compile(r"\n--(\d{3})--\n")
NAMES = {
    "job": "JOB",
    "swp": "SWEEP",
    "ds": "DATASET",
    "est": "ESTIMATE",
    "whe": "ENDPOINT",
    "msg": "DELIVERY",
}
"""Of the variables that pages use, by the beginnings of ids. A key's id has none."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: str

    def json(self) -> Any:  # noqa: ANN401 -- any JSON
        return json.loads(self.body)


class Reader(Protocol):
    """Who does what a page says."""

    language: str

    def run(self, text: str) -> list[Answer]: ...

    def learn(self, ids: dict[str, str]) -> None: ...


def statuses(block: Block) -> list[int]:
    """Those that its calls say they are answered with: 200 where nothing else is said."""
    if block.language == "python":
        calls = [line for line in block.text.splitlines() if re.search(r"client\.\w+\(", line)]
    else:
        whole = re.sub(r"'[^']*'", "…", block.text).replace("\\\n", " ")
        calls = [line for line in whole.splitlines() if line.startswith("curl ")]
    found = [STATUS.search(call) for call in calls]
    return [int(status[1]) if status else 200 for status in found]


@dataclass
class Shell:
    folder: Path
    variables: dict[str, str]
    language: str = field(default="sh", init=False)
    printed: str = field(default="", init=False)
    patience: float = 60

    def run(self, text: str) -> list[Answer]:
        (self.folder / ".curlrc").write_text(CURLRC, encoding="utf-8")
        # A page shows the beginning of what a reader fills in. What a block exports stays.
        filled = PLACE.sub(r'export \1="$\1"', text)
        script = f"{filled}\nprintf '%s\\0' SAVED\nenv -0"
        ran = subprocess.run(
            ["bash", "-euc", script],  # noqa: S607
            cwd=self.folder,
            env=self.variables | {"CURL_HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            check=True,
            timeout=self.patience,
        )
        printed, saved = ran.stdout.decode().split("SAVED\0")
        self.variables |= dict(
            line.split("=", 1) for line in saved.split("\0") if line and "=" in line
        )
        self.printed = printed
        parts = ANSWERED.split(printed)
        answers = [Answer(int(s), body) for body, s in zip(parts[::2], parts[1::2], strict=False)]
        for answer in answers:
            self._read(answer)
        return answers

    def learn(self, ids: dict[str, str]) -> None:
        self.variables |= {name.upper(): value for name, value in ids.items()}

    def _read(self, answer: Answer) -> None:
        """Keep the id that an answer is about, as a reader would."""
        try:
            shown = answer.json()
        except ValueError:
            return
        if isinstance(shown, dict) and "id" in shown:
            self.variables[NAMES.get(shown["id"].split("_")[0], "KEY")] = shown["id"]


@dataclass
class Interpreter:
    names: dict[str, Any] = field(default_factory=dict)
    language: str = field(default="python", init=False)
    answers: list[httpx.Response] = field(default_factory=list)

    def run(self, text: str) -> list[Answer]:
        before = len(self.answers)
        exec(compile(text, "page", "exec"), self.names)  # noqa: S102 -- the page is ours
        self._listen()
        return [Answer(found.status_code, _text(found)) for found in self.answers[before:]]

    def learn(self, ids: dict[str, str]) -> None:
        self.names |= ids

    def _listen(self) -> None:
        client = self.names["client"]
        if not client.event_hooks["response"]:
            client.event_hooks = {"response": [self.answers.append]}


def _text(answer: httpx.Response) -> str:
    try:
        return answer.text
    except httpx.ResponseNotRead:
        return ""  # The page has read it as a stream.
