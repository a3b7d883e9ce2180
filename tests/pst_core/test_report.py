"""What a report holds is consistent, and what cannot be is refused."""

import json
import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from pst_core.report import Cost, Estimate, PrunedMatrix, Scores, VarianceShares


def accuracy() -> Scores:
    metrics = {
        "accuracy": Estimate(value=2 / 3, low=0.1, high=0.9),
        "matthews": Estimate(value=0.5, low=-0.1, high=0.8),
    }
    return Scores(primary="accuracy", metrics=metrics, rows=3, constant=1 / 3)


def test_the_value_of_scores_is_that_of_the_primary_metric() -> None:
    assert accuracy().value == 2 / 3
    assert accuracy().estimate == Estimate(value=2 / 3, low=0.1, high=0.9)


def test_scores_come_back_from_their_json_to_the_last_bit() -> None:
    assert Scores.model_validate_json(accuracy().model_dump_json()) == accuracy()


def test_scores_write_the_primary_metric_once() -> None:
    assert set(json.loads(accuracy().model_dump_json())) == {
        "primary", "metrics", "rows", "constant",
    }  # fmt: skip


def test_a_primary_metric_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ValidationError, match="'bleu' is not among the metrics"):
        Scores(primary="bleu", metrics={}, rows=1, constant=None)


@pytest.mark.parametrize(("low", "high"), [(0.6, 0.7), (0.3, 0.4), (0.6, 0.4)])
def test_an_interval_without_its_value_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValidationError, match="is not within"):
        Estimate(value=0.5, low=low, high=high)


@pytest.mark.parametrize(("low", "high"), [(None, 0.7), (0.3, None)])
def test_half_an_interval_is_refused(low: float | None, high: float | None) -> None:
    with pytest.raises(ValidationError, match="both or neither"):
        Estimate(value=0.5, low=low, high=high)


def test_an_estimate_may_have_no_interval() -> None:
    assert Estimate(value=0.5, low=None, high=None).low is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_estimate_that_is_no_finite_number_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Estimate(value=value, low=None, high=None)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValidationError, match="low_rank"):
        VarianceShares(weight=0.5, low_rank=share, row_column=0.1)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValidationError, match="pruned"):
        PrunedMatrix(name="a.weight", shape=(2, 2), pruned=-1, parts=(2,))


def test_a_matrix_has_its_outputs_first_unless_it_says_otherwise() -> None:
    assert PrunedMatrix(name="a.weight", shape=(6, 2), pruned=0, parts=(2, 2, 2)).output_axis == 0
    stored_transposed = {"name": "c_attn.weight", "shape": [2, 6], "pruned": 0, "parts": [2, 2, 2]}
    matrix = PrunedMatrix.model_validate_json(json.dumps({**stored_transposed, "output_axis": 1}))
    assert (matrix.output_axis, matrix.parts) == (1, (2, 2, 2))


def test_an_infinite_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Cost(steps=1, seconds=math.inf, step_seconds=1.0, peak_memory_bytes=1)


def test_an_unknown_field_is_refused() -> None:
    text = '{"steps": 1, "seconds": 1, "step_seconds": 1, "peak_memory_bytes": 1, "watts": 1}'
    with pytest.raises(ValidationError, match="watts"):
        Cost.model_validate_json(text)


def test_a_report_is_read_without_torch_or_numpy() -> None:
    program = (
        "import sys, pst_core.report; assert not {'torch', 'numpy', 'sacrebleu'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
