"""From a spec to checkpoints that another process can verify; what is tampered with is refused."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

import pst_core
from pst_core.errors import (
    CheckpointCorruptError,
    InvalidDatasetError,
    PstError,
    SparsityMissedError,
    UnsupportedModelError,
)
from pst_core.events import EvaluationEvent, PhaseEvent, ProgressEvent, ResultEvent
from pst_core.formats.manifest import read_manifest, write_sealed
from pst_core.formats.packed import unpack
from pst_core.prepare import Sources, prepare
from pst_core.references import DataSource
from pst_core.trainer import StopRequestedError
from pst_core.verify import verify_export
from tests.pst_core import tiny
from tests.pst_core.exports import (
    WEIGHTS,
    Export,
    edit_manifest,
    masks_of,
    repack,
    run,
    sha256s,
    sign,
)

PRUNED = "bert.encoder.layer.1.attention.self.key.weight"
STEPS = 80  # 160 rows in batches of 16, for 8 epochs
FORMATS = ("dense", "packed")
each_format = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Compressed and not yet verified; not to be changed."""
    folder = tmp_path_factory.mktemp("export")
    return run(folder, folder / "out")


@pytest.fixture
def copy(export: Export, tmp_path: Path) -> Export:
    """The same, to be verified or spoiled."""
    return export.copy(tmp_path / "copy")


def flip_a_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_the_phases_are_told_in_order(export: Export) -> None:
    phases = [event.phase for event in export.events if isinstance(event, PhaseEvent)]
    assert phases == ["preparing", "training", "exporting"]


def test_the_progress_is_told_up_to_the_last_step(export: Export) -> None:
    progress = [event for event in export.events if isinstance(event, ProgressEvent)]
    assert [event.step for event in progress] == list(range(1, STEPS + 1))
    assert {(event.total_steps, event.stage) for event in progress} == {(STEPS, "main")}


def test_both_evaluations_are_told(export: Export) -> None:
    events = [event for event in export.events if isinstance(event, EvaluationEvent)]
    told = {event.split: event.value for event in events}
    assert {event.metric for event in events} == {"accuracy"}
    evaluation = export.report.outcome.evaluation
    assert evaluation.validation is not None
    assert told == {"validation": evaluation.validation.value, "test": evaluation.test.value}


def test_the_last_event_is_the_report(export: Export) -> None:
    assert export.events[-1] == ResultEvent(report=export.report)


def test_the_sparse_model_has_learned_the_task(export: Export) -> None:
    test = export.report.outcome.evaluation.test
    assert test.estimate.low is not None
    assert test.constant is not None
    assert test.estimate.low > test.constant


def test_the_accuracy_is_that_of_the_saved_model_text_by_text(export: Export) -> None:
    model, _ = pst_core.load(export.out / "dense")
    examples = prepare(export.spec, export.sources, splits=("test",)).examples["test"]
    answers = [
        int(model(input_ids=torch.tensor(example.tokens)[None]).logits.argmax())
        for example in examples
    ]
    right = sum(a == example.target for a, example in zip(answers, examples, strict=True))
    test = export.report.outcome.evaluation.test
    assert (test.value, test.rows) == (right / len(examples), len(examples))


def test_the_constant_is_the_share_of_the_most_frequent_class(export: Export) -> None:
    examples = prepare(export.spec, export.sources, splits=("test",)).examples["test"]
    labels = Counter(examples.targets.tolist())
    share = max(labels.values()) / labels.total()
    assert export.report.outcome.evaluation.test.constant == share


def test_every_block_matrix_is_pruned_by_exactly_the_integer_part(export: Export) -> None:
    matrices = export.report.outcome.matrices
    assert len(matrices) == 12
    for matrix in matrices:
        assert matrix.pruned == int(0.5 * (matrix.shape[0] * matrix.shape[1]))


def test_the_dense_file_has_as_many_zeros_as_the_report_says(export: Export) -> None:
    weights = load_file(export.out / "dense" / WEIGHTS)
    for matrix in export.report.outcome.matrices:
        assert int((weights[matrix.name] == 0).sum()) == matrix.pruned


def test_the_zeros_of_the_dense_file_are_positive(export: Export) -> None:
    weights = load_file(export.out / "dense" / WEIGHTS)
    for matrix in export.report.outcome.matrices:
        tensor = weights[matrix.name]
        assert not tensor[tensor == 0].signbit().any()


def test_the_sparsity_is_counted_in_the_pruned_matrices_and_over_all(export: Export) -> None:
    outcome = export.report.outcome
    pruned = sum(matrix.pruned for matrix in outcome.matrices)
    entries = sum(matrix.shape[0] * matrix.shape[1] for matrix in outcome.matrices)
    parameters = sum(
        tensor.numel() for tensor in load_file(export.out / "dense" / WEIGHTS).values()
    )
    assert outcome.sparsity == pruned / entries
    assert (outcome.parameters, outcome.sparsity_overall) == (parameters, pruned / parameters)


def test_the_trainable_parameters_are_the_factors_and_the_head(export: Export) -> None:
    shapes = [matrix.shape for matrix in export.report.outcome.matrices]
    factors = sum((2 + 2 + 1) * (out + inputs) for out, inputs in shapes)
    head = (32 * 32 + 32) + (2 * 32 + 2)
    assert export.report.outcome.trainable_parameters == factors + head


def test_what_is_not_trained_is_exported_bit_for_bit(export: Export) -> None:
    base = load_file(export.sources.model / WEIGHTS)
    weights = load_file(export.out / "dense" / WEIGHTS)
    pruned = {matrix.name for matrix in export.report.outcome.matrices}
    frozen = {n for n in base if f"bert.{n}" not in pruned and not n.startswith("pooler.")}
    assert len(frozen) > 20
    assert all(torch.equal(weights[f"bert.{name}"], base[name]) for name in frozen)


def test_the_masks_are_the_nonzeros_of_the_dense_file(export: Export) -> None:
    weights = load_file(export.out / "dense" / WEIGHTS)
    masks = masks_of(export)
    assert masks.keys() == {matrix.name for matrix in export.report.outcome.matrices}
    for name, mask in masks.items():
        assert np.array_equal(mask, weights[name].numpy() != 0)


def test_packed_unpacks_to_the_bits_of_dense(export: Export, tmp_path: Path) -> None:
    unpack(export.out / "packed", tmp_path / "dense")
    assert (tmp_path / "dense" / WEIGHTS).read_bytes() == (
        export.out / "dense" / WEIGHTS
    ).read_bytes()


@each_format
def test_the_manifest_lists_every_file_with_its_size_and_hash(export: Export, name: str) -> None:
    folder = export.out / name
    files = json.loads((folder / "pst.json").read_bytes())["files"]
    found = {
        path.name: {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in folder.iterdir()
        if path.name != "pst.json"
    }
    assert {WEIGHTS, "config.json", "tokenizer.json"} < found.keys()
    assert files == found


@each_format
def test_the_manifest_holds_the_outcome_and_no_attestation_yet(export: Export, name: str) -> None:
    manifest = read_manifest(export.out / name)
    assert (manifest.format, manifest.outcome) == (name, export.report.outcome)
    assert manifest.attestation is None


@each_format
def test_the_reported_bytes_are_those_of_the_weight_file(export: Export, name: str) -> None:
    size = (export.out / name / WEIGHTS).stat().st_size
    assert export.report.outcome.bytes[name] == size


@each_format
def test_the_tokenizer_is_the_base_models_byte_for_byte(export: Export, name: str) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        base = (export.sources.model / file).read_bytes()
        assert (export.out / name / file).read_bytes() == base


@each_format
def test_the_checkpoint_loads_in_plain_transformers_with_its_labels(
    export: Export, name: str
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(export.out / name)
    assert model.config.id2label == {0: "neg", 1: "pos"}


def test_the_same_spec_twice_gives_the_same_bytes(export: Export, tmp_path: Path) -> None:
    folder = export.out.parent
    again = run(folder, tmp_path / "again", sources=export.sources)
    assert again.report.outcome == export.report.outcome
    hashes = sha256s(again.out)
    assert {"dense/pst.json", "packed/pst.json", f"packed/{WEIGHTS}"} < hashes.keys()
    assert hashes == sha256s(export.out)


def test_another_seed_gives_other_weights(export: Export, tmp_path: Path) -> None:
    other = run(export.out.parent, tmp_path / "other", sources=export.sources, changes={"seed": 1})
    hashes = [sha256s(out)[f"dense/{WEIGHTS}"] for out in (other.out, export.out)]
    assert hashes[0] != hashes[1]


def test_verifying_attests_to_both_formats(copy: Export) -> None:
    copy.verify()
    pruned = sum(matrix.pruned for matrix in copy.report.outcome.matrices)
    for name in FORMATS:
        attestation = read_manifest(copy.out / name).attestation
        assert attestation is not None
        assert (attestation.zeros, attestation.equals_dense) == (pruned, True)
        assert attestation.test == copy.report.outcome.evaluation.test


def test_verifying_changes_nothing_but_the_manifests(copy: Export) -> None:
    before = sha256s(copy.out)
    copy.verify()
    after = sha256s(copy.out)
    assert after.keys() == before.keys()
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"dense/pst.json", "packed/pst.json"}


def test_verifying_twice_gives_the_same_bytes(copy: Export) -> None:
    copy.verify()
    once = sha256s(copy.out)
    copy.verify()
    assert sha256s(copy.out) == once


@each_format
@pytest.mark.parametrize("position", [9, -1], ids=["header", "last value"])
def test_one_flipped_bit_of_a_weight_file_fails_with_its_name(
    copy: Export, name: str, position: int
) -> None:
    flip_a_byte(copy.out / name / WEIGHTS, position)
    with pytest.raises(CheckpointCorruptError, match=rf"{name}/model\.safetensors is altered"):
        copy.verify()


@each_format
def test_a_missing_file_fails_with_its_name(copy: Export, name: str) -> None:
    (copy.out / name / "tokenizer.json").unlink()
    with pytest.raises(CheckpointCorruptError, match=rf"{name}/tokenizer\.json is missing"):
        copy.verify()


@each_format
def test_an_export_without_one_of_its_formats_fails(copy: Export, name: str) -> None:
    shutil.rmtree(copy.out / name)

    with pytest.raises(CheckpointCorruptError, match=name):
        copy.verify()


def test_an_export_of_another_spec_fails(copy: Export) -> None:
    other = copy.spec.model_copy(update={"sparsity": 0.25})

    with pytest.raises(CheckpointCorruptError, match="another spec"):
        verify_export(copy.out, other, copy.sources)


def test_a_file_that_no_manifest_lists_fails_with_its_name(copy: Export) -> None:
    (copy.out / "packed" / "modeling.py").write_text("", encoding="utf-8")

    with pytest.raises(CheckpointCorruptError, match=r"modeling\.py"):
        copy.verify()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_manifest_that_is_not_ours_fails(copy: Export, content: bytes) -> None:
    (copy.out / "packed" / "pst.json").write_bytes(content)
    with pytest.raises(CheckpointCorruptError, match=r"pst\.json (cannot be read|is altered)"):
        copy.verify()


def test_a_manifest_of_another_version_fails(copy: Export) -> None:
    write_sealed(copy.out / "packed" / "pst.json", {"version": 2})
    with pytest.raises(CheckpointCorruptError, match=r"pst\.json cannot be read"):
        copy.verify()


def test_a_mask_that_prunes_one_entry_less_fails_with_its_matrix(copy: Export) -> None:
    masks = masks_of(copy)
    masks[PRUNED][tuple(np.argwhere(~masks[PRUNED])[0])] = True
    repack(copy, copy.out / "dense", masks)
    with pytest.raises(SparsityMissedError, match=rf"{PRUNED} has 511 pruned entries; 512"):
        copy.verify()


def test_a_mask_that_prunes_another_entry_fails_with_its_matrix(
    copy: Export, tmp_path: Path
) -> None:
    masks = masks_of(copy)
    kept, pruned = (tuple(np.argwhere(masks[PRUNED] == kind)[0]) for kind in (True, False))
    masks[PRUNED][kept], masks[PRUNED][pruned] = False, True
    forged = Path(shutil.copytree(copy.out / "dense", tmp_path / "forged"))
    weights = load_file(forged / WEIGHTS)
    weights[PRUNED][kept] = 0.0
    save_file(weights, forged / WEIGHTS, metadata={"format": "pt"})
    repack(copy, forged, masks)
    with pytest.raises(CheckpointCorruptError, match=rf"{PRUNED} .*has other bits"):
        copy.verify()


def test_a_matrix_that_is_not_packed_fails(copy: Export) -> None:
    masks = masks_of(copy)
    del masks[PRUNED]
    repack(copy, copy.out / "dense", masks)
    with pytest.raises(CheckpointCorruptError, match="packs other tensors"):
        copy.verify()


def test_a_dense_file_with_a_zero_filled_in_fails_with_its_matrix(copy: Export) -> None:
    weights = load_file(copy.out / "dense" / WEIGHTS)
    weights[PRUNED][tuple((weights[PRUNED] == 0).nonzero()[0])] = 1e-3
    save_file(weights, copy.out / "dense" / WEIGHTS, metadata={"format": "pt"})
    sign(copy.out / "dense")
    with pytest.raises(SparsityMissedError, match=rf"{PRUNED} has 511 zeros, not 512"):
        copy.verify()


def test_a_changed_weight_under_a_true_hash_still_differs_from_the_other_format(
    copy: Export,
) -> None:
    weights = load_file(copy.out / "dense" / WEIGHTS)
    weights["bert.embeddings.word_embeddings.weight"][0, 0] += 1e-3
    save_file(weights, copy.out / "dense" / WEIGHTS, metadata={"format": "pt"})
    sign(copy.out / "dense")
    with pytest.raises(CheckpointCorruptError, match=r"word_embeddings\.weight.*has other bits"):
        copy.verify()


def test_a_manifest_that_claims_another_count_fails(copy: Export) -> None:
    def claim(outcome: dict[str, object]) -> None:
        matrices = outcome["matrices"]
        assert isinstance(matrices, list)
        matrices[0]["pruned"] -= 1

    edit_manifest(copy.out / "packed", claim)
    with pytest.raises(SparsityMissedError, match=r"not pruned as its pst\.json says"):
        copy.verify()


@each_format
def test_a_manifest_that_claims_another_accuracy_fails(copy: Export, name: str) -> None:
    def claim(outcome: dict[str, object]) -> None:
        evaluation = outcome["evaluation"]
        assert isinstance(evaluation, dict)
        evaluation["test"]["metrics"]["accuracy"] = {"value": 0.0, "low": 0.0, "high": 0.5}

    edit_manifest(copy.out / name, claim)
    with pytest.raises(CheckpointCorruptError, match=r"its trainer reported 0\."):
        copy.verify()


@pytest.fixture(scope="module")
def dense_export(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return run(
        export.out.parent,
        tmp_path_factory.mktemp("dense") / "out",
        sources=export.sources,
        changes={"method": "dense", "sparsity": None},
    )


def test_dense_training_exports_the_dense_format_alone(dense_export: Export) -> None:
    assert [path.name for path in dense_export.out.iterdir()] == ["dense"]
    assert dense_export.report.outcome.bytes.keys() == {"dense"}


def test_dense_training_prunes_nothing_and_trains_everything(dense_export: Export) -> None:
    outcome = dense_export.report.outcome
    assert (outcome.matrices, outcome.sparsity, outcome.sparsity_overall) == ((), 0.0, 0.0)
    assert outcome.trainable_parameters == outcome.parameters


def test_a_dense_export_verifies(dense_export: Export) -> None:
    dense_export.verify()
    attestation = read_manifest(dense_export.out / "dense").attestation
    assert attestation is not None
    assert attestation.zeros == 0


@pytest.fixture(scope="module")
def with_baseline(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Export:
    out = tmp_path_factory.mktemp("baseline") / "out"
    return run(export.out.parent, out, sources=export.sources, changes={"baseline": "train"})


def test_without_a_baseline_none_is_reported(export: Export) -> None:
    assert (export.report.outcome.baseline, export.report.baseline_cost) == (None, None)


def test_the_baseline_is_what_dense_training_gives(
    with_baseline: Export, dense_export: Export
) -> None:
    assert with_baseline.report.outcome.baseline == dense_export.report.outcome.evaluation
    assert with_baseline.report.baseline_cost is not None
    assert with_baseline.report.baseline_cost.steps == STEPS


def test_a_baseline_does_not_change_the_compressed_model(
    with_baseline: Export, export: Export
) -> None:
    weights = [sha256s(each.out)[f"dense/{WEIGHTS}"] for each in (with_baseline, export)]
    assert weights[0] == weights[1]


def test_steps_count_over_both_stages(with_baseline: Export) -> None:
    progress = [event for event in with_baseline.events if isinstance(event, ProgressEvent)]
    assert [event.step for event in progress] == list(range(1, 2 * STEPS + 1))
    assert {event.total_steps for event in progress} == {2 * STEPS}
    assert [event.stage for event in progress] == ["baseline"] * STEPS + ["main"] * STEPS


def test_the_difference_to_the_baseline_is_that_of_the_scores(with_baseline: Export) -> None:
    outcome = with_baseline.report.outcome
    assert outcome.baseline is not None
    assert outcome.difference is not None
    expected = outcome.evaluation.test.value - outcome.baseline.test.value
    assert outcome.difference.value == pytest.approx(expected)


def test_epochs_may_be_broken(export: Export, tmp_path: Path) -> None:
    changes = {"hyperparameters": {"epochs": 0.25, "batch_size": 16}}
    export = run(export.out.parent, tmp_path / "out", sources=export.sources, changes=changes)
    # A quarter of 10 batches, rounded up.
    assert export.report.cost.steps == 3


def test_without_validation_rows_only_the_test_split_is_scored(
    export: Export, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    tiny.save_csv(data / "train.csv", tiny.toy_rows(32))
    tiny.save_csv(data / "test.csv", tiny.toy_rows(16, seed=1))
    export = run(
        tmp_path,
        tmp_path / "out",
        sources=Sources(model=export.sources.model, dataset=DataSource(path=data)),
        changes={"dataset": f"file:{data}", "hyperparameters": {"epochs": 1}},
    )
    assert export.report.outcome.evaluation.validation is None
    assert export.report.outcome.evaluation.test.rows == 16


def test_a_stop_request_ends_the_run_without_a_checkpoint(export: Export, tmp_path: Path) -> None:
    with pytest.raises(StopRequestedError):
        run(
            export.out.parent,
            tmp_path / "out",
            sources=export.sources,
            should_stop=lambda: True,
        )
    assert not (tmp_path / "out").exists()


def refusal(folder: Path, sources: Sources, **changes: object) -> PstError:
    with pytest.raises(PstError) as caught:
        run(folder, folder / "out", sources=sources, changes=changes)
    assert not (folder / "out").exists()
    return caught.value


def test_a_wrong_column_is_refused_before_training(export: Export, tmp_path: Path) -> None:
    dataset = {"ref": "file:toy.csv", "columns": {"text": "review"}}
    error = refusal(tmp_path, export.sources, dataset=dataset)
    assert isinstance(error, InvalidDatasetError)
    assert error.field == "dataset.columns.text"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{}"),
        ("config.json", b"not json"),
        ("config.json", b'{"model_type": "unheard-of"}'),
        ("tokenizer.json", b"{}"),
    ],
)
def test_a_folder_that_is_no_model_is_unsupported(
    tmp_path: Path, file: str, content: bytes
) -> None:
    sources = tiny.sources(tmp_path)
    (sources.model / file).write_bytes(content)
    error = refusal(tmp_path, sources)
    assert isinstance(error, UnsupportedModelError)
    assert error.field == "model"


def test_a_model_with_pickled_weights_alone_is_unsupported(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)
    weights = load_file(sources.model / WEIGHTS)
    (sources.model / WEIGHTS).unlink()
    torch.save(weights, sources.model / "pytorch_model.bin")
    error = refusal(tmp_path, sources)
    assert isinstance(error, UnsupportedModelError)
    assert "safetensors" in error.remedy
