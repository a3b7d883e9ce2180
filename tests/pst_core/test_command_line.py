"""`python -m pst_core` as users meet it: exit codes, a table, messages that name the field."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from typer.testing import CliRunner, Result

from pst_core.__main__ import cli
from pst_core.formats.manifest import read_manifest
from pst_core.report import Report
from tests.pst_core import tiny
from tests.pst_core.exports import sha256s
from tests.pst_core.finished import finish

HYPERPARAMETERS = {"epochs": 1, "batch_size": 16, "rank": 2, "score_rank": 2}


@dataclass(frozen=True)
class Finished:
    folder: Path
    returncode: int
    stdout: str
    stderr: str


def unwrapped(text: str) -> str:
    """Without the frame and the line breaks of a narrow terminal."""
    return " ".join(text.replace("│", " ").split())


def write_spec(folder: Path, **changes: object) -> Path:
    """A spec whose paths are relative to its folder."""
    document = tiny.spec_document(Path(), hyperparameters=HYPERPARAMETERS) | changes
    path = folder / "spec.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def launch(folder: Path) -> "Popen[str]":
    words = [sys.executable, "-m", "pst_core", "compress", "spec.json", "out"]
    # Threads that fight over two cores make these small processes many times slower.
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return Popen(words, cwd=folder, env=env, stdout=PIPE, stderr=PIPE, text=True, encoding="utf-8")


def wait_for(folder: Path, process: "Popen[str]") -> Finished:
    stdout, stderr = process.communicate()
    return Finished(folder, process.returncode, stdout, stderr)


def refused(spec_file: Path, out: Path) -> Result:
    """In this process, which has loaded torch already: no more than reading the spec is needed."""
    return CliRunner().invoke(cli, ["compress", str(spec_file), str(out)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Finished]]:
    """Commands side by side, since each takes seconds to load torch."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("good", "bad_data")}
    for folder in folders.values():
        tiny.sources(folder)
    write_spec(folders["good"])
    wrong = {"ref": "file:toy.csv", "columns": {"text": "review"}}
    write_spec(folders["bad_data"], dataset=wrong)
    with ExitStack() as stack:
        started = {name: launch(folder) for name, folder in folders.items()}
        for process in started.values():
            stack.callback(process.kill)
        yield {name: wait_for(folders[name], process) for name, process in started.items()}


def test_a_compression_exits_with_0(runs: dict[str, Finished]) -> None:
    assert runs["good"].returncode == 0, runs["good"].stderr


def test_standard_output_is_the_table_alone(runs: dict[str, Finished]) -> None:
    lines = [line for line in runs["good"].stdout.splitlines() if line.strip()]
    assert "file:model by pst" in lines[0]
    assert all(line[0] in "┌│└├" for line in lines[1:])


def test_the_table_has_accuracy_sparsity_sizes_and_trainable_share(
    runs: dict[str, Finished],
) -> None:
    outcome = read_manifest(runs["good"].folder / "out" / "packed").outcome
    rows = {
        cells[1].strip(): cells[2].strip()
        for cells in (line.split("│") for line in runs["good"].stdout.splitlines())
        if len(cells) == 4
    }
    test = outcome.evaluation.test
    assert rows.pop("accuracy, this model").startswith(f"{test.value:.4g}")
    assert rows == {
        "accuracy, dense baseline": "not measured",
        "sparsity, asked": "50.00%",
        "sparsity, counted": "50.0000%",
        "bytes, dense": f"{outcome.bytes['dense']:,}",
        "bytes, packed": f"{outcome.bytes['packed']:,}",
        "trainable parameters": f"{outcome.trainable_parameters / outcome.parameters:.2%}",
        "report": "out/report/report.md",
    }


def test_both_formats_are_written_and_attested_to(runs: dict[str, Finished]) -> None:
    for name in ("dense", "packed"):
        assert read_manifest(runs["good"].folder / "out" / name).attestation is not None


def test_the_report_is_written_beside_the_formats(runs: dict[str, Finished]) -> None:
    folder = runs["good"].folder / "out"
    report = Report.model_validate_json((folder / "report" / "report.json").read_bytes())
    assert report.outcome == read_manifest(folder / "packed").outcome
    assert (folder / "report" / "report.md").is_file()


def test_it_says_what_was_verified(runs: dict[str, Finished]) -> None:
    assert "verified: files, masks, zeros" in unwrapped(runs["good"].stderr)


def test_a_bad_spec_exits_with_2_and_names_every_wrong_field(tmp_path: Path) -> None:
    path = write_spec(tmp_path, sparsity=1.5, colour="red", hyperparameters={"rank": 0})
    result = refused(path, tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    named = [line.split(": ")[1] for line in result.stderr.splitlines()]
    assert sorted(named) == ["colour", "hyperparameters.rank", "sparsity"]


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'"\xff"'])
def test_a_spec_that_is_not_json_exits_with_2_and_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(content)
    result = refused(path, tmp_path / "out")
    assert result.exit_code == 2
    assert "spec.json is not JSON" in result.stderr


def test_a_spec_that_is_not_there_exits_with_2_and_names_it(tmp_path: Path) -> None:
    result = refused(tmp_path / "absent.json", tmp_path / "out")
    assert result.exit_code == 2
    assert "SPEC.json" in result.stderr


def test_bad_data_exits_with_1(runs: dict[str, Finished]) -> None:
    assert runs["bad_data"].returncode == 1


def test_bad_data_names_field_place_and_remedy(runs: dict[str, Finished]) -> None:
    expected = (
        "pst_core: dataset.columns.text: toy.csv, line 2 has no column 'review'. "
        "Its columns are: text, label."
    )
    assert expected in unwrapped(runs["bad_data"].stderr)


def test_bad_data_is_no_traceback_and_no_output(runs: dict[str, Finished]) -> None:
    assert "Traceback" not in runs["bad_data"].stderr
    assert runs["bad_data"].stdout == ""
    assert not (runs["bad_data"].folder / "out").exists()


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "out" / "precious.txt"
    kept.parent.mkdir()
    kept.write_text("keep me", encoding="utf-8")
    result = refused(write_spec(tmp_path), kept.parent)
    assert result.exit_code == 2
    assert "is not empty: choose a new folder" in unwrapped(result.stderr)
    assert [path.name for path in kept.parent.iterdir()] == ["precious.txt"]
    assert kept.read_text(encoding="utf-8") == "keep me"


def test_an_adapter_is_rebuilt_from_its_base(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    done = finish(base, "text-classification", tmp_path)
    command = ["rebuild", str(done.adapter), f"file:{base}", str(tmp_path / "out")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    assert sha256s(tmp_path / "out") == sha256s(done.dense)


def test_an_adapter_is_not_rebuilt_over_something_else(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["rebuild", str(tmp_path), "base", str(tmp_path.parent)])
    assert result.exit_code == 2
    assert "is not empty: choose a new folder" in unwrapped(result.output)


def test_without_a_command_the_help_is_shown() -> None:
    result = CliRunner().invoke(cli, [])
    assert {"compress", "verify", "rebuild", "inspect"} <= set(result.output.split())
