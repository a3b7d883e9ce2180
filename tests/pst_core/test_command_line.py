"""`python -m pst_core` as users meet it: exit codes, a table, messages that name the field."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pst_core import terminal
from pst_core.__main__ import cli, main
from pst_core.formats.manifest import read_manifest
from pst_core.report import Report
from pst_core.snapshots import Snapshots
from pst_core.spec import CompressionSpec
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


def refused(spec_file: Path, out: Path) -> Result:
    """In this process, which has loaded torch already: no more than reading the spec is needed."""
    return CliRunner().invoke(cli, ["compress", str(spec_file), str(out)])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A compression as a user runs it; what is refused is run in this process."""
    folder = tmp_path_factory.mktemp("good")
    tiny.sources(folder)
    write_spec(folder)
    words = [
        sys.executable,
        "-m",
        "pst_core",
        "compress",
        "spec.json",
        "out",
        "--snapshots",
        "kept",
    ]
    # Threads that fight over two cores make this small process many times slower.
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8", check=False
    )
    return Finished(folder, done.returncode, done.stdout, done.stderr)


@pytest.fixture
def bad_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Finished:
    tiny.sources(tmp_path)
    wrong = {"ref": "file:toy.csv", "columns": {"text": "review"}}
    path = write_spec(tmp_path, dataset=wrong)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pst_core", "compress", path.name, "out"])
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    return Finished(tmp_path, int(ended.value.code or 0), output.out, output.err)


def test_a_compression_exits_with_0(good: Finished) -> None:
    assert good.returncode == 0, good.stderr


def test_standard_output_is_the_table_alone(good: Finished) -> None:
    lines = [line for line in good.stdout.splitlines() if line.strip()]
    assert "file:model by pst" in lines[0]
    assert all(line[0] in "┌│└├" for line in lines[1:])


def test_the_table_has_accuracy_sparsity_sizes_and_trainable_share(
    good: Finished,
) -> None:
    outcome = read_manifest(good.folder / "out" / "packed").outcome
    rows = {
        cells[1].strip(): cells[2].strip()
        for cells in (line.split("│") for line in good.stdout.splitlines())
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


def test_both_formats_are_written_and_attested_to(good: Finished) -> None:
    for name in ("dense", "packed"):
        assert read_manifest(good.folder / "out" / name).attestation is not None


def test_the_report_is_written_beside_the_formats(good: Finished) -> None:
    folder = good.folder / "out"
    report = Report.model_validate_json((folder / "report" / "report.json").read_bytes())
    assert report.outcome == read_manifest(folder / "packed").outcome
    assert (folder / "report" / "report.md").is_file()


def test_it_says_what_was_verified(good: Finished) -> None:
    assert "verified: files, masks, zeros" in unwrapped(good.stderr)


def test_a_compression_goes_on_from_the_snapshots_it_kept(
    good: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [path.name for path in (good.folder / "kept").iterdir()] == ["step-00000010"]
    monkeypatch.chdir(good.folder)
    spec = CompressionSpec.model_validate_json(Path("spec.json").read_bytes())
    terminal.compress(spec, Path("again"), Snapshots(folder=Path("kept"), every_seconds=1))
    assert "going on from step-00000010, stage main" in unwrapped(capsys.readouterr().err)
    weights = "packed/model.safetensors"
    assert sha256s(Path("again"))[weights] == sha256s(Path("out"))[weights]


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


def test_bad_data_exits_with_1(bad_data: Finished) -> None:
    assert bad_data.returncode == 1


def test_bad_data_names_field_place_and_remedy(bad_data: Finished) -> None:
    expected = (
        "pst_core: dataset.columns.text: toy.csv, line 2 has no column 'review'. "
        "Its columns are: text, label."
    )
    assert expected in unwrapped(bad_data.stderr)


def test_bad_data_is_no_traceback_and_no_output(bad_data: Finished) -> None:
    assert "Traceback" not in bad_data.stderr
    assert bad_data.stdout == ""
    assert not (bad_data.folder / "out").exists()


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
