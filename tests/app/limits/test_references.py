"""References that try to lead out, and models made to harm: the API opens none of it."""

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

OPENS = ("open", "os.listdir", "os.scandir")


class Watch:
    """Notes every file and folder that this process opens while it is on."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self._on = False
        sys.addaudithook(self._note)

    @contextmanager
    def on(self) -> Iterator[list[str]]:
        self.opened = []
        self._on = True
        try:
            yield self.opened
        finally:
            self._on = False

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._on and event in OPENS:
            self.opened.append(str(arguments[0]))


@pytest.fixture(scope="module")
def watch() -> Watch:
    # There is no way of taking such a hook away, so there is one for all tests.
    return Watch()


@pytest.fixture
def outside(tmp_path: Path, file_root: Path) -> Path:
    """A model with a dataset beside the root, and links to them within it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "train.csv", "test.csv"):
        (folder / name).write_text("{}", encoding="utf-8")
    (file_root / "link").symlink_to(folder)
    return folder


HOSTILE: dict[str, Callable[[Path], str]] = {
    "up": lambda _: "../outside",
    "up and up": lambda _: "../" * 100 + "etc",
    "absolute": str,
    "percent": lambda _: "%2e%2e/outside",
    "percent slash": lambda _: "..%2foutside",
    "backslash": lambda _: "..\\outside",
    "look-alike": lambda _: "\uff0e\uff0e/outside",
    "link": lambda _: "link",
    "through a link": lambda _: "link/../outside",
    "proc": lambda _: "/proc/self/root/etc",
    "home": lambda _: "~/outside",
    "long": lambda _: "a/" * 400,
    "long name": lambda _: "a" * 1000,
    "nothing": lambda _: "no-such-thing",
}


@pytest.mark.parametrize("field", ["model", "dataset"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_leads_out_is_refused_as_what_leads_nowhere(
    client: TestClient,
    spec: dict[str, object],
    outside: Path,
    watch: Watch,
    hostile: str,
    field: str,
) -> None:
    reference = f"file:{HOSTILE[hostile](outside)}"
    with watch.on() as opened:
        answer = client.post("/jobs", json=spec | {field: reference})
    nowhere = client.post("/jobs", json=spec | {field: "file:no-such-thing"}).json()

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, nowhere["type"])
    assert problem["detail"].replace(reference, "file:no-such-thing") == nowhere["detail"]
    assert not [path for path in opened if str(outside) in path or "etc" in path]


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return eval, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "model.pt", "model.gguf"]
)
def test_submitting_opens_no_file_of_a_model(
    client: TestClient,
    spec: dict[str, object],
    file_root: Path,
    tmp_path: Path,
    watch: Watch,
    name: str,
) -> None:
    model = file_root / "model"
    model.mkdir()
    (model / "config.json").write_text('{"auto_map": {"AutoModel": "code.Model"}}', "utf-8")
    (model / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", "utf-8")
    (model / name).write_bytes(pickle.dumps(Canary(tmp_path / "ran")))

    with watch.on() as opened:
        answer = client.post("/jobs", json=spec | {"model": "file:model"})

    assert answer.status_code in (202, 422)
    assert not (tmp_path / "ran").exists()
    assert not [path for path in opened if str(model) in path]


def test_the_canary_would_have_sung(tmp_path: Path) -> None:
    function, arguments = Canary(tmp_path / "ran").__reduce__()
    function(*arguments)

    assert (tmp_path / "ran").exists()
