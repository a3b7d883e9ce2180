"""Every format that is asked for is written and verified, or refused with the reason."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pst_core.adapters import load_adapter
from pst_core.errors import CheckpointCorruptError, NotInstalledError
from pst_core.formats.manifest import read_manifest
from pst_core.formats.onnx import load_onnx
from pst_core.loading import load
from pst_core.page.write import render
from pst_core.report import Report
from pst_core.verify import verify_checkpoint
from tests.pst_core import tiny
from tests.pst_core.exports import WEIGHTS, Export, run, sign

HYPER = {"epochs": 1, "batch_size": 16, "rank": 2, "score_rank": 2, "max_length": 32}
ALL = ["packed", "dense", "adapter", "compact", "onnx"]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """A model in every format that it can have, verified; not to be changed."""
    folder = tmp_path_factory.mktemp("formats")
    changes = {"hyperparameters": HYPER, "formats": ALL, "measure_benefit": True}
    made = run(folder, folder / "out", changes=changes)
    made.verify()
    return made


@pytest.fixture
def copy(export: Export, tmp_path: Path) -> Export:
    return export.copy(tmp_path / "copy")


def test_what_the_model_does_not_allow_is_refused_with_the_reason(export: Export) -> None:
    outcome = export.report.outcome
    assert outcome.refused.keys() == {"compact"}
    assert "has the fewest that do nothing, 0 of 48" in outcome.refused["compact"]
    assert outcome.bytes.keys() == {"dense", "packed", "adapter", "onnx"}


@pytest.mark.parametrize("name", ["dense", "packed", "adapter", "onnx"])
def test_every_format_is_attested_to_with_the_score_of_the_model(export: Export, name: str) -> None:
    attestation = read_manifest(export.out / name).attestation
    assert attestation is not None
    assert attestation.test == export.report.outcome.evaluation.test
    assert attestation.equals_dense == (name != "onnx")


@pytest.mark.parametrize("name", ["adapter", "onnx"])
def test_what_nobody_touched_verifies(export: Export, name: str) -> None:
    found = verify_checkpoint(export.out / name, export.sources)
    assert found == read_manifest(export.out / name).attestation


def test_every_folder_has_a_card(export: Export) -> None:
    for name in ("dense", "packed", "adapter", "onnx"):
        assert (export.out / name / "README.md").read_text().startswith("---\n")


def test_the_adapter_is_the_dense_model(export: Export) -> None:
    adapted, _ = load_adapter(export.out / "adapter", export.sources.model)
    dense, _ = load(export.out / "dense")
    state = dense.state_dict()
    assert all(torch.equal(state[name], found) for name, found in adapted.state_dict().items())


def test_a_changed_adapter_does_not_verify_under_true_hashes(copy: Export) -> None:
    path = copy.out / "adapter" / "adapter.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    sign(copy.out / "adapter")
    with pytest.raises(CheckpointCorruptError):
        copy.verify()


def test_an_onnx_file_of_another_model_does_not_verify(copy: Export) -> None:
    weights = load_file(copy.out / "dense" / WEIGHTS)
    weights["classifier.bias"] += 3
    save_file(weights, copy.out / "dense" / WEIGHTS, metadata={"format": "pt"})
    shutil.copytree(copy.out / "dense", copy.out / "other")
    other = load_onnx(copy.out / "onnx")
    assert other.config.num_labels == 2
    sign(copy.out / "dense")
    with pytest.raises(CheckpointCorruptError):
        copy.verify()


def test_the_report_tells_what_was_not_made_and_how_fast_it_is(export: Export) -> None:
    page = render(export.report)
    assert "| `compact` | not made |" in page
    benefit = export.report.benefit
    assert benefit is not None
    assert {each.runtime for each in benefit.verdicts} == {"pytorch", "pytorch-csr", "onnxruntime"}
    assert ("**onnxruntime**: No gain" in page) is (benefit.device == "cpu")
    assert f"takes less than {benefit.sizes.limit.total:,} bytes" in page


def test_a_report_with_a_benefit_survives_json(export: Export) -> None:
    assert Report.model_validate_json(export.report.model_dump_json()) == export.report


def test_a_missing_package_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pst_core.formats.onnx.find_spec", lambda _: None)
    tiny.sources(tmp_path)
    with pytest.raises(NotInstalledError, match=r"pst-service\[onnx\]"):
        run(tmp_path, tmp_path / "out", changes={"formats": ["packed", "onnx"]})
