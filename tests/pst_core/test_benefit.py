"""What a compression is worth is measured in every runtime there is, and judged plainly."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from pst_core.batches import Example, Examples
from pst_core.benefit import MAX_ROUNDS, Folders, measure_benefit, measure_sizes
from pst_core.benefit_report import Benefit, Latency, Runtime, Variant, judge
from pst_core.formats.compact import write_compact
from pst_core.formats.packed import write_packed
from tests.pst_core import tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A classifier of which two neurons in three are gone, in three formats."""
    folder = tmp_path_factory.mktemp("formats")
    model = tiny.classifier()
    with torch.no_grad():
        model.get_parameter(PRUNED)[:, :32] = 0
    model.save_pretrained(folder / "dense")
    tiny.save_tokenizer(folder / "dense", ends=True, segments=True)
    masks = {PRUNED: (model.get_parameter(PRUNED) != 0).numpy()}
    write_packed(folder / "dense", masks, folder / "packed")
    write_compact(folder / "dense", folder / "compact")
    return Folders(dense=folder / "dense", packed=folder / "packed", compact=folder / "compact")


PRUNED = "bert.encoder.layer.0.output.dense.weight"


def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pst_core.formats.onnx.find_spec", lambda _: None)


def test_each_runtime_is_measured_dense_sparse_and_compact(folders: Folders) -> None:
    benefit = measure_benefit(
        folders, {PRUNED}, tiny.random_examples(), seconds=0, batch_sizes=(1, 3)
    )

    measured = [(each.runtime, each.variant, each.batch_size) for each in benefit.latencies]
    assert measured == [
        (runtime, variant, size)
        for size in (1, 3)
        for runtime, variant in (
            ("pytorch", "dense"),
            ("pytorch-csr", "sparse"),
            ("pytorch", "compact"),
            ("onnxruntime", "dense"),
            ("onnxruntime", "compact"),
        )
    ]
    assert {each.runs for each in benefit.latencies} == {1}
    assert [each.runtime for each in benefit.verdicts] == ["pytorch", "pytorch-csr", "onnxruntime"]
    assert (benefit.device, benefit.threads) == ("cpu", torch.get_num_threads())
    assert Benefit.model_validate_json(benefit.model_dump_json()) == benefit


@pytest.fixture
def benefit(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> Benefit:
    """With all the time it wants, and PyTorch alone."""
    without_onnx(monkeypatch)
    return measure_benefit(
        folders, {PRUNED}, tiny.random_examples(), seconds=3600, batch_sizes=(2, 5)
    )


def test_speedups_are_ratios_to_the_dense_model(benefit: Benefit) -> None:
    dense = {each.batch_size: each.seconds for each in benefit.latencies if each.variant == "dense"}

    for each in benefit.latencies:
        assert each.speedup == dense[each.batch_size] / each.seconds
        assert each.speedup_in_runtime == each.speedup


def test_runs_end_before_the_time_does_where_they_are_enough(benefit: Benefit) -> None:
    assert {each.runs for each in benefit.latencies} == {MAX_ROUNDS}


def test_a_runtime_that_is_missing_is_said_to_be(benefit: Benefit) -> None:
    assert "onnxruntime" not in {each.runtime for each in benefit.latencies}
    assert benefit.verdicts[-1].runtime == "onnxruntime"
    assert benefit.verdicts[-1].text.startswith("Not measured: The ONNX format needs onnx,")


def test_without_a_compact_folder_and_pruned_weights_dense_is_all_there_is(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_onnx(monkeypatch)

    benefit = measure_benefit(
        Folders(dense=folders.dense), (), tiny.random_examples(), seconds=0, batch_sizes=(1,)
    )

    (latency,) = benefit.latencies
    assert (latency.variant, latency.speedup) == ("dense", 1)
    assert benefit.verdicts[0].text == "No gain: it computes zeros like other numbers."
    assert not benefit.verdicts[0].gain


def test_long_texts_are_cut_to_what_a_batch_may_have(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_onnx(monkeypatch)
    monkeypatch.setattr("pst_core.benefit.MAX_TOKENS", 40)
    texts = Examples.collect(Example(np.full(30, 5, np.int32), 0) for _ in range(3))

    benefit = measure_benefit(folders, (), texts, seconds=0, batch_sizes=(1, 4))

    assert benefit.tokens == {1: 30, 4: 40}


def test_sizes_are_those_of_the_weights(folders: Folders) -> None:
    sizes = measure_sizes(folders, {PRUNED})

    for name in ("dense", "packed", "compact"):
        file = getattr(folders, name) / "model.safetensors"
        assert getattr(sizes, name) == file.stat().st_size
    # A third of 32 × 48 entries is kept, in whole columns.
    assert sizes.limit.masks == math.ceil(32 * 48 * 0.9182958 / 8)
    assert sizes.limit.total < (sizes.packed or 0) < sizes.dense


def latency(runtime: Runtime, variant: Variant, speedup: float, *, batch_size: int = 1) -> Latency:
    return Latency(
        runtime=runtime,
        variant=variant,
        batch_size=batch_size,
        seconds=1,
        runs=1,
        speedup=9,  # to another runtime's dense model: not what is judged
        speedup_in_runtime=speedup,
    )


DENSE = latency("pytorch", "dense", 1)


def test_less_than_a_twentieth_is_no_gain() -> None:
    (_, verdict) = judge([DENSE, latency("pytorch-csr", "sparse", 1.04)], {})

    assert not verdict.gain
    assert verdict.text == "Sparse: no gain at batch 1 (1.04×)."


def test_a_gain_at_one_batch_size_does_not_hide_a_loss_at_another() -> None:
    (verdict,) = judge(
        [
            latency("pytorch-csr", "sparse", 1.7),
            latency("pytorch-csr", "sparse", 0.93, batch_size=32),
        ],
        {},
    )

    assert verdict.gain
    assert verdict.text == "Sparse: 1.70× as fast at batch 1, no gain at batch 32 (0.93×)."


def test_a_runtime_that_was_not_measured_has_its_reason() -> None:
    reasons: Mapping[Runtime, str] = {"onnxruntime": "It is not there."}

    (verdict,) = judge([], reasons)

    assert (verdict.gain, verdict.text) == (False, "Not measured: It is not there.")
